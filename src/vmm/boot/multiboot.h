// Multiboot 1 kernels: ELF, or any file whose header has the address fields. [MULTIBOOT]
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "vmm/boot/boot_input.h"
#include "vmm/boot/range_plan.h"
#include "vmm/core/base/result.h"
#include "vmm/core/state/cpu_state.h"

namespace vmm {

// Where the Multiboot header is in the first 8 KiB (`head`) of a file. [MULTIBOOT] 3.1.1
std::optional<uint64_t> FindMultibootHeader(std::span<const uint8_t> head);

// `head` as for FindMultibootHeader, which gave `header_offset`.
Result<BootEntry> LoadMultiboot(const BootInput& input, std::span<const uint8_t> head,
                                uint64_t header_offset, RangePlan& plan, CpuState& boot_cpu);

}  // namespace vmm
