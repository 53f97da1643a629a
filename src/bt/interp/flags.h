// The arithmetic flags as the host gives them: LAHF in bits 15:8, OF in bit 0. Handlers run the
// same instruction as the guest and keep what the host's flags say, so the host is the
// specification, undefined flags included.
#pragma once

#include <cstdint>

#include "bt/isa/insn_use.h"

namespace bt {

using Flags = uint16_t;

inline constexpr Flags kOverflow = 1, kCarry = 1 << 8, kParity = 1 << 10, kAuxiliary = 1 << 12,
                       kZeroFlag = 1 << 14, kSign = 1 << 15;

// The same in EFLAGS positions are kArithmeticFlags.
constexpr uint64_t FlagsToEflags(Flags flags) {
  return ((flags >> 8) & 0xd5) | ((flags & kOverflow) ? 0x800u : 0u);
}
constexpr Flags EflagsToFlags(uint64_t value) {
  return static_cast<Flags>(((value & 0xd5) << 8) | ((value >> 11) & 1));
}

// Condition codes as the low four bits of Jcc, SETcc and CMOVcc encode them. [SDM 1] B.1
template <unsigned kCode>
constexpr bool Condition(Flags flags) {
  bool result = false;
  switch (kCode >> 1) {
    case 0:
      result = flags & kOverflow;
      break;
    case 1:
      result = flags & kCarry;
      break;
    case 2:
      result = flags & kZeroFlag;
      break;
    case 3:
      result = flags & (kCarry | kZeroFlag);
      break;
    case 4:
      result = flags & kSign;
      break;
    case 5:
      result = flags & kParity;
      break;
    case 6:
      result = ((flags >> 15) ^ flags) & 1;
      break;
    case 7:
      result = (((flags >> 15) ^ flags) & 1) || (flags & kZeroFlag);
      break;
  }
  return result != (kCode & 1);
}

}  // namespace bt
