// How the translator treats each instruction: the closed list of what may run as a copy of itself.
// What is not on it is run by the interpreter.
#pragma once

#include "bt/isa/insn.h"
#include "bt/isa/insn_use.h"

namespace bt {

enum class Treatment : uint8_t {
  kInterpreter,
  kNothing,    // hints
  kCopy,       // registers only
  kMemory,     // a copy that names its memory operand by a host address
  kBitString,  // BT and its kin, the bit's number in a register
  kAddress,    // LEA
  kSelector,   // MOV of a segment register to a general one
  kDivide,     // checked first: it must not trap on the host
  kLoadMxcsr,  // of what masks every exception
  kPush,
  kPushFlags,
  kClearIf,
  kSetIf,  // never the last of a block: no interrupt comes before the next instruction
  kSwapGs,
  kSetAc,
  kClearAc,
  kRepeat,  // REP MOVS and REP STOS, by a stub
  kPop,
  kLeave,
  kJump,
  kJumpIf,
  kCall,
  kReturn,
  kJumpIndirect,
  kCallIndirect,
  kSystemCall,    // SYSCALL
  kSystemReturn,  // SYSRET to 64-bit code
};

// Whether `insn` names a memory operand, and its size in bytes: 0 where there is none.
bool HasMemory(const Insn& insn);
unsigned MemoryBytes(const Insn& insn);

// What a near RET takes from the stack beyond its target, in bytes.
int32_t StackReleased(const Insn& insn);

// Of 64-bit code.
Treatment TreatmentOf(const Insn& insn, const InsnUse& use);

// Whether the arithmetic flags after `insn` do not depend on those before, as the host does it.
bool OverwritesFlags(const Insn& insn, const InsnUse& use);

// Whether all but the carry flag are as the instruction leaves them, whatever they were.
bool NeedsOnlyCarry(const Insn& insn);

// Which vector registers a copy of `insn` touches: XMM (legacy encodings) or YMM (VEX). kNone also
// for what the translator does not copy.
enum class VectorUse : uint8_t { kNone, kSse, kAvx };
VectorUse VectorUseOf(const Insn& insn, const InsnUse& use);

// Whether `insn` is x87 that is copied, and whether it leaves the instruction and data pointers
// alone.
enum class X87Use : uint8_t { kNone, kControl, kOperation };
X87Use X87UseOf(const Insn& insn);

// A memory operand at an address that is no multiple of this raises #GP. [SDM 1] 14.9, [SDM 2A]
// 2.4.1
unsigned AlignmentOf(const Insn& insn);

// BT, BTS, BTR or BTC of memory with the bit's number in a register, which reaches beyond the
// operand.
bool IsBitString(const Insn& insn);

// Whether translated code may have such an instruction as it is, but for its operands.
constexpr bool IsCopied(Treatment how) {
  return how == Treatment::kCopy || how == Treatment::kMemory || how == Treatment::kAddress ||
         how == Treatment::kDivide;
}

// Control passes through the end of the block.
constexpr bool IsBranch(Treatment how) {
  return how >= Treatment::kJump;
}

}  // namespace bt
