// Counting the guest's instructions: a block counts all of its own when it is entered. What it does
// not come to is taken back where it is left: here, or by Translator::RunSite.
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
    EmitLeaveAtStart(EmitJumpIf(hot_, kAbove));
  }
  hot_.mov(hot_.ptr[hot_.At(context_.instructions)], hot_.r11);
  count_bytes_ = space_.OffsetOf(hot_) - begin;
}

// `jump` is a way out to `target`. If it leaves the middle of the block, what begins there and
// behind it is yet to be run: that is taken back in the cold half. The jump that leaves then.
CodeSpace::Offset BlockTranslator::EmitUncount(CodeSpace::Offset jump, int32_t target, bool plain) {
  const bool middle = plain || step_ + size_t{1} < steps_.size();
  if (counting_ == Counting::kNone || !middle) return jump;
  uint32_t rest = 0;
  for (const Step& step : steps_) rest += step.next > target;
  if (rest == 0) return jump;
  space_.PatchJump(jump, space_.OffsetOf(cold_));
  cold_.sub(cold_.qword[cold_.At(context_.instructions)], rest);
  return EmitJump(cold_);
}

}  // namespace bt
