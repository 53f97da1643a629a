// Entries of page tables. [SDM 3A] 4.3 to 4.5
#pragma once

#include <cstdint>

#include "vmm/core/base/types.h"

namespace bt {

inline constexpr uint64_t kPresent = 1, kWritable = 2, kUser = 4, kAccessed = 0x20, kDirty = 0x40,
                          kLarge = 0x80, kGlobal = 0x100, kNoExecute = 1ull << 63;
inline constexpr uint64_t kAddressMask = 0x000ffffffffff000;
inline constexpr uint64_t kPageMask = ~(vmm::kPageSize - 1);

// Whether there is such an address. [SDM 1] 3.3.7.1
inline bool Canonical(uint64_t linear) {
  return static_cast<uint64_t>(static_cast<int64_t>(linear << 16) >> 16) == linear;
}

// One level of a page walk: where its entry stands and what it covers.
struct PageLevel {
  unsigned shift;       // lowest linear-address bit that it translates
  unsigned bits;        // index bits
  unsigned entry_size;  // bytes
  bool may_be_large;
};

inline constexpr PageLevel kLong[] = {
    {39, 9, 8, false}, {30, 9, 8, true}, {21, 9, 8, true}, {12, 9, 8, false}};

// What a page table entry says of a page.
struct PeekedPage {
  uint64_t phys;
  unsigned shift;  // of the page's size
  bool user;       // it is the user's
  bool writable;   // and dirty already
  bool global;
};

}  // namespace bt
