// The head of an instruction: prefixes, opcode, ModRM and SIB. It says all of the instruction but
// its displacement and its immediate, so few thousand heads make up most code.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>

#include "bt/isa/insn.h"

namespace bt {

struct Head {
  // The first one lowest; they say by themselves how many they are.
  uint64_t bytes = 0;
  uint8_t length = 0;  // 0: none that is to be cached

  // Whether another instruction with this head is `insn` but for displacement and immediate.
  bool Says(const Insn& insn) const;
  // A displacement or an immediate of `count` bytes, 1 to 8.
  static uint64_t ValueAt(const uint8_t* bytes, unsigned count, bool is_signed);
};

// Where the displacement or the immediate begins. One byte too many costs hits, one that is missing
// is noticed by Head::Says().
Head HeadOf(std::span<const uint8_t> bytes, CodeSize code_size);

// What is known of heads, those that were used last.
template <class T>
class HeadCache {
 public:
  // Null: not known, or not with that code size.
  const T* Find(const Head& head, CodeSize code_size) {
    if (!sets_ || head.length == 0) return nullptr;
    const unsigned set = SetOf(head, code_size);
    Heads& heads = sets_->heads[set];
    unsigned way = 0;
    while (way < kWays && heads.head[way] != head.bytes) ++way;
    if (way == kWays) return nullptr;
    const T& known = sets_->known[set][heads.at[way]];
    if (known.code_size != code_size) return nullptr;
    if (way != 0) heads.ToFront(way);
    return &known;
  }
  // In the place of the one that was not used for longest. T has the `code_size` of its head.
  void Add(const Head& head, const T& known) {
    if (!sets_) sets_ = std::make_unique<Sets>();
    const unsigned set = SetOf(head, known.code_size);
    Heads& heads = sets_->heads[set];
    unsigned way = 0;
    while (way + 1 < kWays && heads.head[way] != head.bytes) ++way;
    heads.head[way] = head.bytes;
    sets_->known[set][heads.at[way]] = known;
    heads.ToFront(way);
  }

 private:
  static constexpr uint64_t kNoHead = ~0ull;  // no instruction begins with eight times FF
  static constexpr unsigned kSets = 1024, kWays = 4;
  // Heads that share a place. The one that was used last stands first.
  struct Heads {
    uint64_t head[kWays] = {kNoHead, kNoHead, kNoHead, kNoHead};
    uint8_t at[kWays] = {0, 1, 2, 3};  // where in its set it is known

    void ToFront(unsigned way) {
      std::rotate(head, head + way, head + way + 1);
      std::rotate(at, at + way, at + way + 1);
    }
  };
  struct Sets {  // the heads by themselves, for they are looked at more often
    Heads heads[kSets];
    T known[kSets][kWays];
  };

  static unsigned SetOf(const Head& head, CodeSize code_size) {
    const uint64_t mixed = (head.bytes + static_cast<unsigned>(code_size)) * 0x9e3779b97f4a7c15;
    return static_cast<unsigned>(mixed >> 40) & (kSets - 1);
  }

  std::unique_ptr<Sets> sets_;
};

}  // namespace bt
