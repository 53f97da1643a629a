// ELF kernels with a PVH entry: Linux vmlinux with CONFIG_PVH, Xen, FreeBSD. [PVH]
#pragma once

#include "vmm/boot/boot_input.h"
#include "vmm/boot/elf_image.h"
#include "vmm/boot/range_plan.h"
#include "vmm/core/base/result.h"
#include "vmm/core/state/cpu_state.h"

namespace vmm {

// `image` has a pvh_entry.
Result<BootEntry> LoadPvh(const BootInput& input, const ElfImage& image, RangePlan& plan,
                          CpuState& boot_cpu);

}  // namespace vmm
