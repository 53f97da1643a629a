// Where indirect jumps lead: linear addresses to translated code. Each address space and privilege
// has a table of its own, so that a jump compares the address and nothing else.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

namespace bt {

struct JumpTarget {
  uint64_t linear;
  uint64_t code;  // entry for FlagHome::kMemory
};

// The tables of those values of Cpu::key_ that were used last. A key is never used again for
// anything else, so a table is right until its place is needed.
class JumpTables {
 public:
  static constexpr unsigned kTargetBits = 10, kTargets = 1 << kTargetBits;
  // Code computes `(low 32 bits * kHash) >> kHashShift & kIndexMask` as the offset of the entry
  // where a target is first looked for; then come the others of the same cache line.
  static constexpr unsigned kWays = 4;
  static constexpr uint32_t kHash = 0x9e3779b1;
  static constexpr unsigned kHashShift = 32 - kTargetBits - 4;
  static constexpr uint32_t kIndexMask = (kTargets - 1) << 4;
  // The keys of CPL 3 and of the others differ in bit 0; so do their tables, in this bit.
  static constexpr uint64_t kUserTable = kTargets * sizeof(JumpTarget);

  JumpTables();

  // The table of `key`, for code to look into.
  uint64_t Select(uint64_t key) {
    if (spaces_[current_].key != (key & ~1ull)) Find(key);
    return spaces_[current_].tables + (key & 1) * kUserTable;
  }
  void Insert(uint64_t linear, uint64_t key, uint64_t code);
  void Clear();

 private:
  static constexpr unsigned kSpaces = 8;
  static constexpr uint64_t kNoKey = ~1ull;
  struct Space {
    uint64_t key = kNoKey;  // without bit 0
    uint64_t last_used = 0;
    uint64_t tables = 0;           // of CPL 0 to 2 and, behind it, of CPL 3
    std::vector<uint16_t> filled;  // entries of the two
  };
  static JumpTarget* Table(uint64_t address) { return reinterpret_cast<JumpTarget*>(address); }
  // An entry that holds nothing has an address that belongs elsewhere.
  static JumpTarget Empty(unsigned index) { return {index < kWays ? 1u : 0u, 0}; }
  static unsigned Index(uint64_t linear) {
    return (static_cast<uint32_t>(linear) * kHash >> kHashShift & kIndexMask) >> 4;
  }
  static void Void(Space& space);
  void Find(uint64_t key);

  struct Unmap {
    void operator()(void* memory) const;
  };
  std::unique_ptr<void, Unmap> memory_;
  Space spaces_[kSpaces];
  unsigned current_ = 0;
  uint64_t uses_ = 0;
  unsigned victim_ = 0;
};

}  // namespace bt
