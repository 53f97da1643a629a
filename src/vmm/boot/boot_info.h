// The block of structures that a PVH or Multiboot kernel is handed, and the GDT it starts on.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "vmm/boot/boot_file.h"
#include "vmm/boot/range_plan.h"
#include "vmm/core/base/result.h"
#include "vmm/core/base/types.h"

namespace vmm {

struct PlacedBootInfo {
  GuestPhys gdt, block;
};

// Finds room that the kernel doesn't use, in low memory if there is any, and writes a 32-bit GDT
// and the block there. `build` makes the block for its address; the size must not depend on it.
Result<PlacedBootInfo> PlaceBootInfo(const BootFile& kernel, RangePlan& plan,
                                     const std::function<std::vector<uint8_t>(uint64_t)>& build);

}  // namespace vmm
