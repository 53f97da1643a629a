// Counting the guest's instructions: a translation counts all of its own when it is entered. What
// it does not come to is taken back where it is left: here, or by Translator::RunSite.
#include <algorithm>

#include "bt/translator/block_translator.h"

namespace bt {

// At the start. Destroys kTemp1; changes flags only where turns are counted, and they are in memory
// then.
void BlockTranslator::EmitCount() {
  if (counting_ == Counting::kNone) return;
  const CodeSpace::Offset begin = space_.OffsetOf(hot_);
  hot_.mov(hot_.r11, hot_.ptr[hot_.At(context_.instructions)]);
  hot_.lea(hot_.r11, hot_.ptr[hot_.r11 + translation_->instructions]);
  if (counting_ == Counting::kBounded) {
    hot_.cmp(hot_.r11, hot_.ptr[hot_.At(context_.turn_end)]);
    space_.PatchJump(EmitJumpIf(hot_, kAbove), space_.OffsetOf(cold_));
    EmitLeaveAtStart(FlagHome::kMemory);
  }
  hot_.mov(hot_.ptr[hot_.At(context_.instructions)], hot_.r11);
  count_bytes_ = space_.OffsetOf(hot_) - begin;
}

// In the cold half, for `rest` instructions that are yet to be run. Destroys kTemp1, but no flag.
void BlockTranslator::EmitUncount(size_t rest) {
  if (counting_ == Counting::kNone || rest == 0) return;
  cold_.mov(cold_.r11, cold_.ptr[cold_.At(context_.instructions)]);
  cold_.lea(cold_.r11, cold_.ptr[cold_.r11 - static_cast<int>(rest)]);
  cold_.mov(cold_.ptr[cold_.At(context_.instructions)], cold_.r11);
}

// `jump` is a way out behind the present step, or, to code without spans, before it. The jump that
// leaves once what is yet to be run has been taken back.
CodeSpace::Offset BlockTranslator::EmitUncount(CodeSpace::Offset jump, bool plain) {
  const size_t done = std::min<size_t>(steps_.size(), step_ + (plain ? 0u : 1u));
  if (counting_ == Counting::kNone || done == steps_.size()) return jump;
  space_.PatchJump(jump, space_.OffsetOf(cold_));
  EmitUncount(steps_.size() - done);
  return EmitJump(cold_);
}

}  // namespace bt
