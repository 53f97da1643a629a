// Which family of isa_table.inc an instruction belongs to, and what operands it has.
#pragma once

#include <algorithm>

#include "bt/isa/insn.h"

namespace difftest {

enum class Family {
  kNone,
  Alu,
  Unary,
  Mov,
  Cmov,
  Setcc,
  Jcc,
  Branch,
  Shift,
  Bit,
  Bmi,
  MulDiv,
  Atomic,
  Bcd,
  Stack,
  String,
  Flag,
  Nop,
  Io,
  Far,
  Segment,
  System,
  X87,
  XState,
  Sse,
  Vex
};
inline constexpr Family kFamilyOf[] = {
    Family::kNone,
#define ISA(name, family) Family::family,
#include "bt/isa/isa_table.inc"
#undef ISA
};

inline Family FamilyOf(const bt::Insn& insn) {
  return kFamilyOf[static_cast<unsigned>(insn.mnemonic)];
}

inline bool HasMemory(const bt::Insn& insn) {
  return std::any_of(
      insn.operand.begin(), insn.operand.begin() + insn.operand_count,
      [](const bt::Operand& operand) { return operand.kind == bt::OperandKind::kMem; });
}

}  // namespace difftest
