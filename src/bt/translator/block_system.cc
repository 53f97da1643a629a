// System instructions of the kernel's everyday life that need no interpreter.
#include "bt/translator/block_translator.h"
#include "bt/translator/host_registers.h"

namespace bt {

using Xbyak::Reg64;

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

// CLI and STI of CPL 0. No interrupt is taken between an STI and what follows it in its block; if
// one waits already the interpreter casts the shadow.
void BlockTranslator::EmitInterruptFlag(const Step& step) {
  FlagsToMemory();
  hot_.cmp(hot_.byte[hot_.At(context_.cpl)], 0);
  Check check{EmitJumpIf(hot_, kNotZero), AddSite(step), step.next};
  const Xbyak::Address rflags = hot_.dword[hot_.At(context_.rflags)];
  if (step.how == Treatment::kClearIf) {
    hot_.and_(rflags, ~static_cast<uint32_t>(eflags::IF));
  } else {
    hot_.mov(hot_.r10, hot_.ptr[hot_.At(context_.state.apic)]);
    hot_.test(hot_.dword[hot_.r10], vmm::LocalApic::kDeliverable);
    check.more[0] = EmitJumpIf(hot_, kNotZero);
    hot_.or_(rflags, static_cast<uint32_t>(eflags::IF));
  }
  EndCheck(check, true);
}

}  // namespace bt
