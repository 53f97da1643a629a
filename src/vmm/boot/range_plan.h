// Which part of guest RAM holds what during boot: nothing is written that was not claimed here, and
// nothing is claimed twice.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/boot/boot_request.h"
#include "vmm/core/base/result.h"
#include "vmm/core/memory/guest_memory.h"

namespace vmm {

class RangePlan {
 public:
  explicit RangePlan(GuestMemory& memory);

  // Takes [start, start + size) and gives its host address. Any numbers may be asked for: a range
  // that is empty, wraps around, leaves RAM, touches what the firmware owns or was claimed before
  // is kConfigInvalid, with the reason.
  Result<uint8_t*> Claim(std::string_view name, uint64_t start, uint64_t size);

  // Gives back what was claimed at `start`.
  void Release(uint64_t start);

  // The highest, or lowest, free place for `size` bytes in [floor, ceiling), at a multiple of
  // `alignment` (a power of two). Not claimed yet.
  std::optional<uint64_t> FindHighest(uint64_t size, uint64_t alignment, uint64_t floor,
                                      uint64_t ceiling) const;
  std::optional<uint64_t> FindLowest(uint64_t size, uint64_t alignment, uint64_t floor,
                                     uint64_t ceiling) const;

  uint64_t low_ram_end() const;  // bytes of RAM in one piece from address 0
  const GuestMemory& memory() const { return memory_; }
  // What was claimed through Claim(), for BootEntry.
  std::vector<BootEntry::Placed> placed() const;

 private:
  struct Range {
    std::string name;
    uint64_t start, end;  // end: one past the last byte
    bool firmware;
  };
  const Range* FirstOverlap(uint64_t start, uint64_t end) const;

  GuestMemory& memory_;
  std::vector<Range> ranges_;  // in address order
};

// "512 MiB", "96 KiB": for messages.
std::string SizeText(uint64_t bytes);

}  // namespace vmm
