// Copies guest instructions with other registers and another memory operand: what the translator
// does instead of synthesising code. Bytes to bytes; everything else of an instruction stays.
#pragma once

#include <array>
#include <cstdint>

#include "bt/isa/insn.h"

namespace bt {

struct PatchPlan {
  // The host register that stands for each guest general register.
  std::array<uint8_t, 16> gpr{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  // The memory operand becomes [host register memory_base + memory_disp]: no segment base, 64-bit
  // address.
  bool replace_memory = false;
  uint8_t memory_base = 0;
  int32_t memory_disp = 0;
  // Guest registers that are only in memory: the instruction, which MayReadSlot(), has [RIP +
  // slot_disp] for one.
  uint16_t in_memory = 0;
  int32_t slot_disp = 0;
};

// Whether `insn` can have guest register `reg`, which it names, from memory: it reads it once, as a
// source of 32 or 64 bits of plain arithmetic, and names no other memory.
bool MayReadSlot(const Insn& insn, unsigned reg);

// Both write at most kMaxPatched bytes to `out` and give their number, or 0 where the plan cannot
// be expressed; `out` is then untouched.
inline constexpr unsigned kMaxPatched = 16;

// `insn`, decoded as 64-bit code, as `plan` wants it. 0 for: AH CH DH BH together with something
// that needs REX or with a register above BX; a moved register that the encoding can't name
// (InsnUse::gpr_implicit); an index moved to RSP; a memory operand that is to be replaced, but has
// a vector index or no ModRM (MOV moffs); a RIP-relative one that is not; a register that is in
// memory where it can't be; and over 15 bytes.
// Relative branches keep their displacement.
unsigned PatchInsn(const Insn& insn, const PatchPlan& plan, uint8_t* out);

// Loads the host register `destination` with the effective address of insn.mem without its segment
// base, cut to 32 bits where the address size is. Changes no flag. 0 for RIP-relative operands,
// vector indices and an index moved to RSP. The operand need not be one of ModRM.
unsigned EmitAddress(const Insn& insn, const PatchPlan& plan, uint8_t destination, uint8_t* out);

}  // namespace bt
