// The door of this folder: a kernel goes into guest RAM, the boot CPU is set to its entry.
#pragma once

#include "vmm/boot/boot_file.h"
#include "vmm/boot/boot_request.h"
#include "vmm/core/base/result.h"
#include "vmm/core/memory/guest_memory.h"
#include "vmm/core/state/cpu_state.h"

namespace vmm {

// Loads kernel, initrd and modules and writes what the boot protocol asks for. `boot_cpu` is in its
// reset state (ResetCpuState) and becomes what the protocol's entry demands, its local APIC in
// virtual-wire mode. After an error guest RAM and `boot_cpu` are in no defined state.
//
// Errors name the file and the reason. kFileMissing: a file isn't there, is no regular file or
// can't be read (kNoPermission: the host forbids it); kConfigInvalid: it is malformed, of no known
// format, or does not fit into guest RAM; kIoError: reading failed half-way.
//
// Call before any vCPU runs, on any thread; the time it takes is that of copying the files.
Result<BootEntry> LoadKernel(const BootRequest& request, GuestMemory& memory, CpuState& boot_cpu);

// The same for a kernel that is open already, or that is only bytes; request.kernel is not used.
Result<BootEntry> LoadKernel(const BootFile& kernel, const BootRequest& request,
                             GuestMemory& memory, CpuState& boot_cpu);

}  // namespace vmm
