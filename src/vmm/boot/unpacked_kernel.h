// A bzImage's kernel unpacked by us instead of by the guest: the same bytes at the same kind of
// place, in a tenth of the time that a guest without hardware help takes, and without its
// compressed copy in guest RAM.
//
// It does for the kernel what the code in front of it does (arch/x86/boot/compressed of Linux):
// unpack, place, relocate, choose a random address. What it does not understand is left to that
// code: LoadBzImage() then enters the kernel where it unpacks itself.
#pragma once

#include "vmm/boot/boot_request.h"
#include "vmm/boot/bzimage_header.h"
#include "vmm/boot/kernel_payload.h"
#include "vmm/boot/range_plan.h"
#include "vmm/core/base/result.h"
#include "vmm/core/base/types.h"

namespace vmm {

struct UnpackedKernel {
  GuestPhys start;
  GuestPhys entry;  // startup_64 or startup_32 of the kernel proper
  bool is_64 = false;
  bool is_random = false;  // its virtual address was drawn; the kernel wants to know
  Packing packing = Packing::kGzip;
};

// Addresses are drawn from the host's random numbers, unless the request wants all boots alike, the
// command line has `nokaslr`, or the kernel can't move. Room for an initrd of `initrd_size` bytes
// above the kernel is left. kConfigInvalid, with the reason: nothing is claimed, and what the
// kernel needs to unpack itself is still free.
Result<UnpackedKernel> LoadUnpackedKernel(const BootFile& kernel, const BzImageHeader& header,
                                          const BootRequest& request, uint64_t initrd_size,
                                          RangePlan& plan);

}  // namespace vmm
