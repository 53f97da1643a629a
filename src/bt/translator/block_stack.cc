// PUSH, POP, LEAVE and PUSHFQ.
#include "bt/translator/block_translator.h"
#include "bt/translator/host_registers.h"

namespace bt {

using Xbyak::Reg64;

void BlockTranslator::EmitStack(const Step& step) {
  FlagsToMemory();
  const Reg64 sp(kHostOfRsp);
  if (step.how == Treatment::kLeave) {
    hot_.mov(hot_.r10, hot_.rbp);
    const Check check = EmitCheck(step, 8, false);
    hot_.lea(sp, hot_.ptr[hot_.rbp + 8]);
    hot_.mov(hot_.rbp, hot_.ptr[hot_.r10]);
    return EndCheck(check, true);
  }
  const Operand& operand = step.insn.operand[0];
  if (step.how == Treatment::kPop) {
    hot_.mov(hot_.r10, sp);
    const Check check = EmitCheck(step, 8, false);
    hot_.mov(Reg64(plan_.gpr[operand.reg]), hot_.ptr[hot_.r10]);
    hot_.lea(sp, hot_.ptr[sp + 8]);
    return EndCheck(check, true);
  }
  const bool memory = operand.kind == OperandKind::kMem;
  CodeSpace::Offset unreadable = 0;
  if (memory) {
    EmitEffective(step);
    unreadable = EmitCheck(step, 8, false).jump;
    hot_.mov(hot_.r10, hot_.ptr[hot_.r10]);
    hot_.mov(hot_.ptr[hot_.At(context_.state.scratch)], hot_.r10);
  }
  hot_.lea(hot_.r10, hot_.ptr[sp - 8]);
  Check check = EmitCheck(step, 8, true);
  check.more[0] = unreadable;
  if (memory) {
    hot_.mov(hot_.r11, hot_.ptr[hot_.At(context_.state.scratch)]);
    hot_.mov(hot_.ptr[hot_.r10], hot_.r11);
  } else if (operand.kind == OperandKind::kImm)
    hot_.mov(hot_.qword[hot_.r10], static_cast<int32_t>(operand.imm));
  else
    hot_.mov(hot_.ptr[hot_.r10], Reg64(plan_.gpr[operand.reg]));
  hot_.lea(sp, hot_.ptr[sp - 8]);
  EndCheck(check, true);
}

// PUSHFQ: what Cpu::Rflags() says, without RF.
void BlockTranslator::EmitPushFlags(const Step& step) {
  FlagsToMemory();
  const Reg64 sp(kHostOfRsp);
  hot_.movzx(hot_.r10d, hot_.word[hot_.At(context_.flags)]);
  hot_.mov(hot_.r11d, hot_.r10d);
  hot_.and_(hot_.r11d, kOverflow);
  hot_.shl(hot_.r11d, 11);
  hot_.shr(hot_.r10d, 8);
  hot_.and_(hot_.r10d, kArithmeticFlags & 0xff);
  hot_.or_(hot_.r11, hot_.r10);
  hot_.or_(hot_.r11, hot_.ptr[hot_.At(context_.rflags)]);
  hot_.and_(hot_.r11, ~static_cast<uint32_t>(eflags::RF | eflags::VM));
  hot_.mov(hot_.ptr[hot_.At(context_.state.scratch)], hot_.r11);
  hot_.lea(hot_.r10, hot_.ptr[sp - 8]);
  const Check check = EmitCheck(step, 8, true);
  hot_.mov(hot_.r11, hot_.ptr[hot_.At(context_.state.scratch)]);
  hot_.mov(hot_.ptr[hot_.r10], hot_.r11);
  hot_.lea(sp, hot_.ptr[sp - 8]);
  EndCheck(check, true);
}

}  // namespace bt
