// Instructions that were decoded before.
#pragma once

#include <cstdint>
#include <span>

#include "bt/isa/head.h"

namespace bt {

// One thread's.
class DecodeCache {
 public:
  // True: `insn` is what DecodeByZydis() would say of `bytes`, which is kOk.
  bool Find(std::span<const uint8_t> bytes, CodeSize code_size, Insn& insn);
  // `insn` as DecodeByZydis() gave it.
  void Add(const Insn& insn);

 private:
  HeadCache<Insn> known_;
};

}  // namespace bt
