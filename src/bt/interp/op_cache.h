// Ops of instructions whose head was met before (isa/head.h): few bytes of each, where the
// decoder's Insn has hundreds.
#pragma once

#include <cstdint>
#include <span>

#include "bt/interp/op.h"
#include "bt/isa/head.h"

namespace bt {

class OpCache {
 public:
  // The op of the instruction at the beginning of `bytes`, and whether it ends its block. False:
  // not known, or cut off.
  bool Find(std::span<const uint8_t> bytes, CodeSize code_size, Op& op, bool& ends_block);
  // `op` is what FillOperands() and SelectHandler() made of `insn`. The handler may depend on the
  // head only: that is so where it finds displacement and immediate in the op as they are.
  void Add(const Insn& insn, const Op& op);

 private:
  struct Known {
    Op op;
    CodeSize code_size = CodeSize::k64;
    uint8_t disp_offset = 0, disp_bytes = 0;  // 0 bytes: none
    uint8_t imm_offset = 0, imm_bytes = 0;
    bool imm_signed = false;
    bool ends_block = false;
  };
  HeadCache<Known> known_;
};

}  // namespace bt
