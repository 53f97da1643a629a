// The families of isa_table.inc: each has one selector, in the source file of its name, that
// chooses the handler of an instruction. False: this form raises #UD. FillOperands() has been
// called.
#pragma once

#include "bt/interp/cpu.h"

namespace bt {

// clang-format off
#define VMM_BT_FAMILIES(X)                                                      \
  X(Alu) X(Unary) X(Mov) X(Cmov) X(Setcc) X(Jcc) X(Branch) X(Shift) X(Bit)      \
  X(MulDiv) X(Atomic) X(Bcd) X(Stack) X(String) X(Flag) X(Nop) X(Io) X(Far)     \
  X(Segment) X(System) X(X87) X(XState) X(Sse) X(Bmi)   \
  X(Vex)
// clang-format on

#define X(family) bool Select##family(const Insn& insn, Op& op);
VMM_BT_FAMILIES(X)
#undef X

// MASKMOVDQU, MASKMOVQ and VMASKMOVDQU. (sse.cc)
bool SelectMaskedMove(const Insn& insn, Op& op);

// Calls `choose` with a value of the unsigned type of `bits`; the handler it returns.
template <class F>
Handler BySize(unsigned bits, F&& choose) {
  switch (bits) {
    case 8:
      return choose(uint8_t{});
    case 16:
      return choose(uint16_t{});
    case 32:
      return choose(uint32_t{});
    case 64:
      return choose(uint64_t{});
    default:
      return nullptr;
  }
}

inline bool Use(Op& op, Handler handler) {
  op.fn = handler;
  return handler != nullptr;
}

inline bool IsReg(const Operand& operand) {
  return operand.kind == OperandKind::kReg;
}
inline bool IsMem(const Operand& operand) {
  return operand.kind == OperandKind::kMem;
}
inline bool IsImm(const Operand& operand) {
  return operand.kind == OperandKind::kImm;
}
inline bool IsGpr(const Operand& operand) {
  return IsReg(operand) && operand.reg_class == RegClass::kGpr;
}

// Reads operand `src` of a two-operand instruction, whichever kind it is.
enum class Source : uint8_t { kReg, kMem, kImm };

inline Source SourceOf(const Operand& operand) {
  return IsMem(operand) ? Source::kMem : IsImm(operand) ? Source::kImm : Source::kReg;
}

template <class T, Source kSource>
[[gnu::always_inline]] inline bool ReadSource(Cpu& cpu, const Op& op, T& value) {
  if constexpr (kSource == Source::kReg)
    value = cpu.Reg<T>(op.src);
  else if constexpr (kSource == Source::kImm)
    value = static_cast<T>(op.imm);
  else
    return cpu.LoadOperand(op, value);
  return true;
}

// The handler template H<T, Source> for the operand sizes and source kinds of an instruction.
template <template <class, Source> class H>
Handler BySizeAndSource(unsigned bits, Source source) {
  return BySize(bits, [source](auto zero) -> Handler {
    using T = decltype(zero);
    switch (source) {
      case Source::kReg:
        return &H<T, Source::kReg>::Run;
      case Source::kMem:
        return &H<T, Source::kMem>::Run;
      case Source::kImm:
        return &H<T, Source::kImm>::Run;
    }
    return nullptr;
  });
}

}  // namespace bt
