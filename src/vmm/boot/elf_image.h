// An ELF executable of 32 or 64 bits as a kernel image. [ELF] 4, 5
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "vmm/boot/boot_file.h"
#include "vmm/boot/range_plan.h"
#include "vmm/core/base/result.h"

namespace vmm {

struct ElfSegment {
  uint64_t offset = 0, file_size = 0;  // in the file
  uint64_t address = 0;                // guest-physical: p_paddr
  uint64_t virtual_address = 0;        // p_vaddr
  uint64_t memory_size = 0;            // what exceeds file_size is zero
};

struct ElfImage {
  bool is_64 = false;
  uint64_t entry = 0;                 // e_entry
  std::vector<ElfSegment> segments;   // PT_LOAD, none empty in memory
  uint64_t file_end = 0;              // bytes of the file that the headers know of
  std::optional<uint64_t> pvh_entry;  // the note XEN_ELFNOTE_PHYS32_ENTRY. [PVH]

  // Is `address` in a segment, by physical address?
  bool Holds(uint64_t address) const;
};

bool IsElf(std::span<const uint8_t> head);
// Errors: malformed, for another processor, no executable, nothing to load.
Result<ElfImage> ParseElf(const BootFile& file);
// Claims and fills the segments; what has no bytes in the file is zeroed unless `memory_is_zero`.
Result<void> LoadSegments(const ElfImage& image, const BootFile& file, bool memory_is_zero,
                          RangePlan& plan);

}  // namespace vmm
