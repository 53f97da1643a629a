// System instructions of the kernel's everyday life that need no interpreter.
#include "bt/translator/block_translator.h"

namespace bt {

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
