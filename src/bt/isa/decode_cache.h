// Instructions that were decoded before. Prefixes, opcode, ModRM and SIB say all of an instruction
// but its displacement and its immediate, so few thousand of these heads make up most code.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "bt/isa/insn.h"

namespace bt {

// One thread's.
class DecodeCache {
 public:
  // True: `insn` is what DecodeByZydis() would say of `bytes`, which is kOk.
  bool Find(std::span<const uint8_t> bytes, CodeSize code_size, Insn& insn) const;
  // `insn` as DecodeByZydis() gave it.
  void Add(const Insn& insn);

 private:
  struct Entry {
    uint64_t head = 0;        // its bytes, the first one lowest
    uint8_t head_length = 0;  // 0: none
    Insn insn;
  };
  static constexpr unsigned kEntries = 2048;

  std::unique_ptr<Entry[]> entries_;
};

}  // namespace bt
