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
  bool Find(std::span<const uint8_t> bytes, CodeSize code_size, Insn& insn);
  // `insn` as DecodeByZydis() gave it.
  void Add(const Insn& insn);

 private:
  // Bytes of a head, the first one lowest, which say by themselves how many they are. No
  // instruction begins with eight times FF.
  static constexpr uint64_t kNoHead = ~0ull;
  static constexpr unsigned kSets = 1024, kWays = 4;
  // Heads that share a place. The one that was used last stands first.
  struct Heads {
    uint64_t head[kWays] = {kNoHead, kNoHead, kNoHead, kNoHead};
    uint8_t at[kWays] = {0, 1, 2, 3};  // where in its set the instruction is

    void ToFront(unsigned way);
  };
  struct Sets {  // the heads by themselves, for they are looked at more often
    Heads heads[kSets];
    Insn insn[kSets][kWays];
  };

  std::unique_ptr<Sets> sets_;
};

}  // namespace bt
