// Where a step finds its memory: by a look-up of its own, or in a span that was looked up before.
#include <algorithm>
#include <utility>

#include "bt/translator/block_translator.h"

namespace bt {

using Xbyak::Reg64;

BlockTranslator::Place BlockTranslator::ReachMemory(const Step& step, unsigned size, bool write) {
  if (Reached(step.memory)) return PlaceIn(step.memory);
  if (context_.direct) {
    const int32_t disp = EmitDirectAddress(step);
    return Direct(step, hot_.r10, disp);
  }
  FlagsAside();
  ReleaseTemps();
  EmitEffective(step);
  const CodeSpace::Offset misaligned = EmitAlignmentTest(AlignmentOf(step.insn));
  Check check = EmitCheck(step, size, write);
  check.more[0] = misaligned;
  return {hot_.r10, 0, check};
}

BlockTranslator::Place BlockTranslator::ReachStack(const Step& step, const Reg64& base,
                                                   int32_t disp, bool write) {
  if (Reached(step.stack)) return PlaceIn(step.stack);
  if (context_.direct) return Direct(step, base, disp);
  FlagsAside();
  ReleaseTemps();
  if (disp == 0)
    hot_.mov(hot_.r10, base);
  else
    hot_.lea(hot_.r10, hot_.ptr[base + disp]);
  return {hot_.r10, 0, EmitCheck(step, 8, write)};
}

// The jump of a linear address in kTemp0 that is not aligned; 0: none is needed.
CodeSpace::Offset BlockTranslator::EmitAlignmentTest(unsigned alignment) {
  if (alignment <= 1 || leave_out_ == LeaveOut::kAlignment) return 0;
  hot_.test(hot_.r10b, alignment - 1);
  return EmitJumpIf(hot_, kNotZero);
}

bool BlockTranslator::SpanStarts(uint16_t step) const {
  return std::any_of(spans_.begin(), spans_.end(),
                     [step](const Span& span) { return span.first == step; });
}

// The spans that are to be looked up before `step`.
void BlockTranslator::EmitSpanChecks(const Step& step) {
  if (!SpanStarts(step_)) return;
  EnsureRegisters(step);
  for (uint16_t i = 0; i < spans_.size(); ++i) {
    if (spans_[i].first == step_) EmitSpanCheck(step, i);
  }
}

// Where a look-up fails `step` and what comes after it run in code without spans.
void BlockTranslator::EmitSpanCheck(const Step& step, uint16_t index) {
  const Span& span = spans_[index];
  FlagsAside();
  ReleaseTemps();
  if (span.begin.base == MemoryOperand::kRip) {
    EmitPageOffset(static_cast<int32_t>(span.begin.disp));
  } else {
    Insn insn;
    insn.address_bits = 64;
    insn.mem = span.begin;
    uint8_t bytes[kMaxPatched];
    EmitBytes(bytes, EmitAddress(insn, plan_, kTemp0, bytes));
  }
  EmitSegmentBase(span.begin.segment);
  const CodeSpace::Offset misaligned = EmitAlignmentTest(span.alignment);
  const unsigned bytes = span.bytes - (leave_out_ == LeaveOut::kSpanEnd ? 1 : 0);
  const CodeSpace::Offset failed = span.write
                                       ? EmitLookUp(hot_, bytes, leave_out_ != LeaveOut::kSpanWrite)
                                       : EmitReadLookUp(span.begin, bytes);
  const int32_t again = step.next - step.insn.length;
  if (misaligned == 0 && renames_.empty() && x87_at_ < 0) {
    if (failed != 0) AddExit(failed, again, true);
  } else {
    for (CodeSpace::Offset jump : {misaligned, failed}) {
      if (jump != 0) space_.PatchJump(jump, space_.OffsetOf(cold_));
    }
    EmitOwed(cold_, owed_ ? recipe_ : FlagRecipe{});
    EmitX87Pointer(cold_);
    EmitUnrename(cold_);
    AddExitFromMemory(EmitJump(cold_), again, true);
  }
  held_[0] = {index, false};
  recent_ = 0;
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

// By the stub `run`, which calls the interpreter, or may.
void BlockTranslator::EmitInterpreter(const Step& step, CodeSpace::Offset run) {
  FlagsToMemory();
  ReleaseTemps();
  EmitX87Pointer(hot_);
  x87_at_ = -1;
  EmitUnrename(hot_);
  if (context_.direct) return EmitLeaveForSite(hot_, AddSite(step));
  hot_.mov(hot_.r10d, AddSite(step));
  EmitCall(hot_, run);
  EmitRename(hot_);
  vectors_ = VectorUse::kNone;
  x87_ = false;
}

}  // namespace bt
