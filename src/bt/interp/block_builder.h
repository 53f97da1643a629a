// Decodes a block from guest memory.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "bt/interp/cpu.h"

namespace bt {

class BlockBuilder {
 public:
  explicit BlockBuilder(Cpu& cpu) : cpu_(cpu) {}

  // The block at `linear`, which is at guest-physical `phys`. Null: the fetch raised a fault.
  Block* Build(uint64_t linear, uint64_t phys);
  // The ops of a block once more. False: other code is there by now.
  bool Rebuild(Block& block);

 private:
  template <class F>
  bool Decode(const uint8_t* page, F&& cross);
  bool AppendCrossing(const uint8_t* head, unsigned have, uint64_t next_page);
  bool AppendKnown(std::span<const uint8_t> bytes);  // false: it must be decoded
  bool Offered(Insn& insn) const;
  void Append(Insn& insn);
  void AppendInvalid(unsigned length);

  Cpu& cpu_;
  Block block_;
  std::array<Op, BlockCache::kMaxOps> ops_;
  bool closed_ = false;
};

}  // namespace bt
