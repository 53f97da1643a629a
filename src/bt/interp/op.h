// One decoded instruction, ready to run: a handler and the operands it needs, 32 bytes.
#pragma once

#include <cstdint>

#include "bt/isa/insn.h"

namespace bt {

class Cpu;
struct Op;

// Executes one instruction. r[kRip] already points past it. True: go on with the next Op of the
// block. False: leave the block, because control was transferred, an exception was raised
// (Cpu::Raise), or the state that blocks depend on changed.
using Handler = bool (*)(Cpu&, const Op&);

struct Op {
  Handler fn = nullptr;
  uint64_t imm = 0;  // immediate, branch displacement, far pointer, 64-bit displacement or a thunk
  int32_t disp = 0;
  uint8_t dst = 0, src = 0, src2 = 0;  // byte offsets into the register file (see Cpu::Reg)
  uint8_t base = 0, index = 0;         // slots of the register file
  uint8_t shift = 0;
  uint8_t seg = 0;  // slot of Cpu::seg_base_
  uint8_t length = 0;
  uint8_t mode = 0;  // the bits below
  uint8_t aux = 0;   // the family's own

  static constexpr uint8_t kPlain64 = 1;  // 64-bit address, no limit: EA + segment base is all
  static constexpr uint8_t kAddr32 = 2, kAddr16 = 4;
  static constexpr uint8_t kDisp64 = 8;  // the displacement is in imm (moffs)
  static constexpr uint8_t kStack = 16;  // the segment is SS: a bad address is #SS
  static constexpr uint8_t kLock = 32;
  static constexpr uint8_t kRep = 64, kRepne = 128;
};
static_assert(sizeof(Op) == 32);

// Register-file slots after the sixteen general registers.
inline constexpr uint8_t kRip = 16;   // next instruction; RIP-relative operands use it as a base
inline constexpr uint8_t kZero = 17;  // always 0: an absent base or index
inline constexpr uint8_t kSlots = 18;

// Slot of seg_base_ that is always 0.
inline constexpr uint8_t kFlatSegment = 6;

// Fills what every family needs from `insn`: length, memory operand, register operands (first to
// dst, second to src, third to src2), immediate.
void FillOperands(const Insn& insn, Op& op);

// The memory operand that an encoding implies: [register `base`], in DS or the segment of a prefix.
void FillImplicitAddress(const Insn& insn, uint8_t base, Op& op);

// Chooses the handler for `insn`; false when this form raises #UD.
bool SelectHandler(const Insn& insn, Op& op);

// True when `insn` must be the last of its block.
bool EndsBlock(const Insn& insn);

}  // namespace bt
