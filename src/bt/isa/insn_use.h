// Which registers, flags and kinds of memory an instruction reads and writes, implicit operands
// included: what a tier must know to move instructions' registers and to leave out dead flags.
#pragma once

#include <cstdint>

namespace bt {

// CF, PF, AF, ZF, SF and OF. [SDM 1] 3.4.3.1
inline constexpr uint64_t kArithmeticFlags = 0x8d5;

struct InsnUse {
  // Bit n: general register n. A register that keeps a part of its old value counts as read too:
  // after a write of 8 or 16 bits, and after one that need not happen.
  uint16_t gpr_read = 0, gpr_written = 0;
  // Registers that the encoding cannot name otherwise: CL of a shift, rAX of MUL, rSI of a string.
  uint16_t gpr_implicit = 0;
  uint32_t flags_read = 0;     // EFLAGS bits that the outcome depends on
  uint32_t flags_written = 0;  // kArithmeticFlags that do not keep their value, undefined ones too
  // flags_written may be left alone: shifts and rotates by a count that may be 0, REP CMPS and
  // SCAS.
  bool flags_kept_sometimes = false;
  bool memory_read = false, memory_written = false;  // insn.mem; no access: neither (LEA, NOP)
  // Memory that insn.mem does not describe: stack, strings, XLAT, gathers, BT with its bit number
  // in a register.
  bool implicit_memory = false;
  bool vector = false;  // XMM, YMM, MXCSR
  bool x87 = false;     // x87 or MMX

  bool operator==(const InsnUse&) const = default;
};

struct Insn;
// After another immediate was put into `insn`.
void RenewUse(Insn& insn);

}  // namespace bt
