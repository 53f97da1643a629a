// Where jumps lead that leave their page. Each address space and privilege, that is each value of
// Cpu::key_, has tables of its own, so that one compare of a linear address is enough.
#pragma once

#include <bitset>
#include <cstdint>
#include <memory>

namespace bt {

struct JumpTarget {
  uint64_t linear;
  uint64_t code;  // entry for FlagHome::kMemory
};

// What code looks into: linear addresses to translated code, for indirect jumps, and pages with
// code to their linear address, for jumps to the code of a page.
//
// Memory that is all zero is nearly an empty one, and a table costs what was put in: it lives in
// memory of its own.
struct alignas(64) JumpTable {
  static void* operator new(size_t size);
  static void operator delete(void* memory);

  static constexpr unsigned kTargetBits = 14, kTargets = 1 << kTargetBits;
  // `linear * kSpread & kIndexMask` is the offset of the entry where a target is first looked for;
  // then come the others of the same cache line. What is near in the guest's code is near here, but
  // calls one behind the other have entries of their own.
  static constexpr unsigned kWays = 4;
  static constexpr uint32_t kSpread = 3;
  static constexpr uint32_t kIndexMask = (kTargets - 1) << 4;
  // Numbers that the translator gives to pages with code.
  static constexpr unsigned kPages = 4096;
  static constexpr uint64_t kNowhere = 1;

  JumpTarget targets[kTargets];
  uint64_t pages[kPages];  // or kNowhere

  static constexpr unsigned Index(uint64_t linear) {
    return (static_cast<uint32_t>(linear) * kSpread & kIndexMask) / sizeof(JumpTarget);
  }
  // An entry that holds nothing has an address that belongs elsewhere. All but the first are zero.
  static constexpr JumpTarget Empty(unsigned index) { return {index < kWays ? 64u : 0u, 0}; }
};

// The tables of the keys that were used last. A key is never used again for anything else, so a
// table is right until its place is needed.
class JumpTables {
 public:
  static constexpr unsigned kSpaces = 10;

  // `storage`: where the tables are, kSpaces of them; null: in memory of their own, as needed.
  explicit JumpTables(JumpTable* storage = nullptr) : storage_(storage) {}

  // A table that holds nothing: every jump out of a page leaves for the run loop.
  JumpTable* Nowhere();
  // The table of `key`, for code to look into.
  JumpTable* Select(uint64_t key) {
    if (spaces_[current_].key != key) Find(key);
    return spaces_[current_].table;
  }
  void Insert(uint64_t linear, uint64_t key, uint64_t code);
  // Nothing leads to `code` any more, which is at `linear` and nowhere else.
  void Remove(uint64_t linear, uint64_t code);
  // The same, wherever it is.
  void Remove(uint64_t code);
  // Page number `page` is at `linear`.
  void SetPage(unsigned page, uint64_t linear, uint64_t key);
  void Clear();

 private:
  static constexpr uint64_t kNoKey = ~0ull;
  struct Space {
    uint64_t key = kNoKey;
    uint64_t last_used = 0;
    JumpTable* table = nullptr;
    std::unique_ptr<JumpTable> own;
    // Entries that may not be empty.
    std::bitset<JumpTable::kTargets> filled;
    std::bitset<JumpTable::kPages> pages;
  };
  static void MakeEmpty(JumpTable& table);
  static void Void(Space& space);
  void Find(uint64_t key);

  JumpTable* storage_;
  Space spaces_[kSpaces];
  std::unique_ptr<JumpTable> nowhere_;
  unsigned current_ = 0;
  uint64_t uses_ = 0;
  unsigned victim_ = 0;
};

}  // namespace bt
