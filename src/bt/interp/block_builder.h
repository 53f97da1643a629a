// Decodes a block from guest memory.
#pragma once

#include <array>
#include <cstdint>

#include "bt/interp/cpu.h"

namespace bt {

class BlockBuilder {
 public:
  explicit BlockBuilder(Cpu& cpu) : cpu_(cpu) {}

  // The block at `linear`, which is at guest-physical `phys`. Null: the fetch raised a fault.
  Block* Build(uint64_t linear, uint64_t phys);

 private:
  bool BuildCrossing(uint64_t linear, const uint8_t* page, unsigned offset);
  bool Offered(Insn& insn) const;
  void Append(Insn& insn);
  void AppendInvalid(unsigned length);

  Cpu& cpu_;
  Block block_;
  std::array<Op, BlockCache::kMaxOps> ops_;
  bool closed_ = false;
};

}  // namespace bt
