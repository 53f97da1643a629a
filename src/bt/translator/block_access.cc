// Where a step finds its memory: by a look-up of its own, or in a span that was looked up before.
#include <utility>

#include "bt/translator/block_translator.h"

namespace bt {

using Xbyak::Reg64;

BlockTranslator::Place BlockTranslator::ReachMemory(const Step& step, unsigned size, bool write) {
  if (Reached(step.memory)) return PlaceIn(step.memory);
  FlagsToMemory();
  ReleaseTemps();
  if (step.memory.first) {
    EmitEffective(step, step.memory.at);
    return EmitSpanCheck(step, step.memory);
  }
  EmitEffective(step);
  const CodeSpace::Offset misaligned = EmitAlignmentTest(AlignmentOf(step.insn));
  Check check = EmitCheck(step, size, write);
  check.more[0] = misaligned;
  return {hot_.r10, 0, check};
}

BlockTranslator::Place BlockTranslator::ReachStack(const Step& step, const Reg64& base,
                                                   int32_t disp, bool write) {
  if (Reached(step.stack)) return PlaceIn(step.stack);
  FlagsToMemory();
  ReleaseTemps();
  if (step.stack.first) disp -= step.stack.at;
  if (disp == 0)
    hot_.mov(hot_.r10, base);
  else
    hot_.lea(hot_.r10, hot_.ptr[base + disp]);
  if (step.stack.first) return EmitSpanCheck(step, step.stack);
  return {hot_.r10, 0, EmitCheck(step, 8, write)};
}

// The jump of a linear address in kTemp0 that is not aligned; 0: none is needed.
CodeSpace::Offset BlockTranslator::EmitAlignmentTest(unsigned alignment) {
  if (alignment <= 1 || leave_out_ == LeaveOut::kAlignment) return 0;
  hot_.test(hot_.r10b, alignment - 1);
  return EmitJumpIf(hot_, kNotZero);
}

// Looks up the span that `member` is the first of, the linear address of which is in kTemp0. Where
// that fails the step and what comes after it run in code without spans.
BlockTranslator::Place BlockTranslator::EmitSpanCheck(const Step& step, const SpanMember& member) {
  Span& span = spans_[member.span];
  const CodeSpace::Offset misaligned = EmitAlignmentTest(span.alignment);
  const CodeSpace::Offset failed =
      EmitLookUp(span.bytes - (leave_out_ == LeaveOut::kSpanEnd ? 1 : 0),
                 span.write && leave_out_ != LeaveOut::kSpanWrite);
  const int32_t again = step.next - step.insn.length;
  if (misaligned == 0 && renames_.empty() && x87_at_ < 0) {
    if (failed != 0) AddExit(failed, again, true);
  } else {
    for (CodeSpace::Offset jump : {misaligned, failed}) {
      if (jump != 0) space_.PatchJump(jump, space_.OffsetOf(cold_));
    }
    EmitX87Pointer(cold_);
    EmitUnrename(cold_);
    AddExit(EmitJump(cold_), again, true);
  }
  --span.members;
  held_[0] = {member.span, false};
  recent_ = 0;
  return {hot_.r10, member.at, {}};
}

// In a span that has been looked up.
BlockTranslator::Place BlockTranslator::PlaceIn(const SpanMember& member) {
  Span& span = spans_[member.span];
  --span.members;
  const auto free = [this](const Held& held) {
    return held.span == SpanMember::kNone || spans_[held.span].members == 0;
  };
  uint8_t at;
  if (held_[0].span == member.span) {
    at = 0;
  } else if (held_[1].span == member.span) {
    at = 1;
  } else {
    at = free(held_[0]) ? 0 : free(held_[1]) ? 1 : recent_ ^ 1;
    Release(kTemp0 + at);
    hot_.mov(Reg64(kTemp0 + at), hot_.ptr[hot_.At(context_.state.span[span.slot])]);
    held_[at] = {member.span, true};
  }
  recent_ = at;
  return {Reg64(kTemp0 + at), member.at, {}};
}

// Whether a span that was looked up in this step or before is used behind it.
bool BlockTranslator::SpansLive() const {
  for (const Span& span : spans_) {
    if (span.first <= step_ && step_ < span.last) return true;
  }
  return false;
}

void BlockTranslator::Release(uint8_t temp) {
  const Held held = std::exchange(held_[temp - kTemp0], {});
  if (held.span == SpanMember::kNone || held.stored) return;
  const Span& span = spans_[held.span];
  if (span.members == 0) return;
  hot_.mov(hot_.ptr[hot_.At(context_.state.span[span.slot])], Reg64(temp));
}

void BlockTranslator::ReleaseTemps() {
  Release(kTemp0);
  Release(kTemp1);
}

}  // namespace bt
