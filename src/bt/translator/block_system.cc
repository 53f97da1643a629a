// System instructions of the kernel's everyday life that need no interpreter.
#include "bt/translator/block_translator.h"

namespace bt {

void BlockTranslator::EmitSystem(const Step& step) {
  switch (step.how) {
    case Treatment::kClearIf:
    case Treatment::kSetIf:
      return EmitInterruptFlag(step);
    case Treatment::kSystemCall:
    case Treatment::kSystemReturn:
      return EmitSystemCall(step);
    default:
      return EmitPrivileged(step);
  }
}

// Changes no flag.
void BlockTranslator::EmitSelector(const Step& step) {
  const Operand& to = step.insn.operand[0];
  const Xbyak::Reg64 reg(plan_.gpr[to.reg]);
  const uint16_t& selector = context_.seg[step.insn.operand[1].reg].selector;
  if (to.bits == 16)
    hot_.mov(reg.cvt16(), hot_.word[hot_.At(selector)]);
  else
    hot_.movzx(reg.cvt32(), hot_.word[hot_.At(selector)]);
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

// SWAPGS, STAC and CLAC of CPL 0.
void BlockTranslator::EmitPrivileged(const Step& step) {
  FlagsToMemory();
  hot_.cmp(hot_.byte[hot_.At(context_.cpl)], 0);
  const Check check{EmitJumpIf(hot_, kNotZero), AddSite(step), step.next};
  EmitCall(hot_, step.how == Treatment::kSwapGs  ? stubs_.swapgs
                 : step.how == Treatment::kSetAc ? stubs_.stac
                                                 : stubs_.clac);
  EndCheck(check, true);
}

void BlockTranslator::EmitSystemCall(const Step& step) {
  FlagsToMemory();
  EmitX87Pointer(hot_);
  x87_at_ = -1;
  EmitUnrename(hot_);
  hot_.mov(hot_.dword[hot_.At(context_.state.site)], AddSite(step));
  const bool call = step.how == Treatment::kSystemCall;
  if (call) {
    hot_.mov(hot_.r10, hot_.ptr[hot_.At(context_.state.page)]);
    hot_.add(hot_.r10, static_cast<uint32_t>(step.next));
  }
  space_.PatchJump(EmitJump(hot_), call ? stubs_.syscall : stubs_.sysret);
}

}  // namespace bt
