// BT, BTS, BTR and BTC of memory with the bit's number in a register: a string of bits that reaches
// as far as the register says, to both sides of the operand. [SDM 2A] BT
#include "bt/translator/block_translator.h"

namespace bt {
namespace {

using Xbyak::Reg64;

Xbyak::Reg Sized(unsigned reg, unsigned bits) {
  if (bits == 16) return Xbyak::Reg16(static_cast<int>(reg));
  if (bits == 32) return Xbyak::Reg32(static_cast<int>(reg));
  return Reg64(static_cast<int>(reg));
}

void EmitBit(Assembler& code, Mnemonic mnemonic, const Xbyak::Operand& to, const Xbyak::Reg& bit) {
  switch (mnemonic) {
    case Mnemonic::BT:
      return code.bt(to, bit);
    case Mnemonic::BTS:
      return code.bts(to, bit);
    case Mnemonic::BTR:
      return code.btr(to, bit);
    default:
      return code.btc(to, bit);
  }
}

}  // namespace

// The linear address of the unit that has the bit to kTemp0. The flags are aside.
void BlockTranslator::EmitBitAddress(const Step& step) {
  const unsigned bits = step.insn.operand[0].bits, reg = plan_.gpr[step.insn.operand[1].reg];
  EmitOffset(step);
  if (bits == 64)
    hot_.mov(hot_.r11, Reg64(static_cast<int>(reg)));
  else if (bits == 32)
    hot_.movsxd(hot_.r11, Sized(reg, bits).cvt32());
  else
    hot_.movsx(hot_.r11, Sized(reg, bits));
  hot_.sar(hot_.r11, bits == 64 ? 6 : bits == 32 ? 5 : 4);
  hot_.lea(hot_.r10, hot_.ptr[hot_.r10 + hot_.r11 * static_cast<int>(bits / 8)]);
  EmitSegmentBase(step.insn.mem.segment);
}

void BlockTranslator::EmitBitString(const Step& step) {
  if (context_.direct) return EmitDirectMemory(step);
  const unsigned bits = step.insn.operand[0].bits, reg = plan_.gpr[step.insn.operand[1].reg];
  const Xbyak::Reg unit = Sized(kTemp1, bits);
  FlagsAside();
  ReleaseTemps();
  EmitBitAddress(step);
  const Check check = EmitCheck(step, bits / 8, step.use.memory_written);
  if (step.insn.lock) {
    // By the host's own, with a number that does not lead out of the unit. What brings the flags
    // back must leave it alone.
    hot_.mov(hot_.r11d, Xbyak::Reg32(static_cast<int>(reg)));
    if (leave_out_ != LeaveOut::kBitNumber) hot_.and_(hot_.r11d, bits - 1);
    FlagsFor(step, true);
    hot_.lock();
    EmitBit(hot_, step.insn.mnemonic, Xbyak::AddressFrame(bits)[hot_.r10], unit);
  } else {
    FlagsFor(step);
    hot_.mov(unit, hot_.ptr[hot_.r10]);
    EmitBit(hot_, step.insn.mnemonic, unit, Sized(reg, bits));
    if (step.use.memory_written) hot_.mov(hot_.ptr[hot_.r10], unit);
  }
  EndCheck(check, true);
}

}  // namespace bt
