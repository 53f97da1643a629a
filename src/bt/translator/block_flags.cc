// Where the guest's arithmetic flags are: in the host's, or in memory.
#include <algorithm>

#include "bt/translator/block_translator.h"
#include "bt/translator/host_registers.h"
#include "vmm/core/base/check.h"

namespace bt {
namespace {

// It can't fault, and no code of ours comes with it that destroys the flags, once the registers
// that it uses are there.
bool IsHarmless(const BlockStep& step) {
  return step.how == Treatment::kCopy || step.how == Treatment::kAddress ||
         step.how == Treatment::kSelector || step.how == Treatment::kNothing;
}

}  // namespace

void BlockTranslator::FlagsToMemory() {
  if (owed_) FlagsToHost();
  recipe_ = {};
  if (flags_ == FlagHome::kHost && !saved_ && leave_out_ != LeaveOut::kFlags) {
    Release(kTemp1);
    EmitSaveFlags(hot_, context_);
  }
  flags_ = FlagHome::kMemory;
}

// Before code of ours that destroys the host's flags. Rather than to be saved they may be made once
// more by whoever needs them.
void BlockTranslator::FlagsAside() {
  if (owed_) return;
  if (flags_ == FlagHome::kHost && !saved_ && recipe_ && Serves(step_, recipe_.registers)) {
    owed_ = true;
    flags_ = FlagHome::kMemory;
    return;
  }
  FlagsToMemory();
}

// Whether the flags, from the step `first` on, are needed in the host's or by slow ways only, and
// for no longer than `registers`, the guest's, keep their values.
bool BlockTranslator::Serves(size_t first, uint16_t registers) const {
  bool holds = true;
  for (size_t i = first; i < steps_.size(); ++i) {
    const Step& step = steps_[i];
    switch (step.how) {
      case Treatment::kCopy:
      case Treatment::kMemory:
      case Treatment::kAddress:
      case Treatment::kSelector:
      case Treatment::kNothing:
      case Treatment::kPush:
      case Treatment::kPop:
      case Treatment::kLeave:
      case Treatment::kJump:
      case Treatment::kJumpIf:
      case Treatment::kCall:
        break;
      default:
        return false;
    }
    const bool x87 = step.x87 != X87Use::kNone;
    if (step.vector > vectors_ || (x87 && !x87_)) return false;
    const bool overwrites = OverwritesFlags(step.insn, step.use);
    if (!holds) {  // lost, unless they do not matter any more
      if (!IsHarmless(step) || SpanStarts(static_cast<uint16_t>(i))) return false;
      if (!overwrites && (step.use.flags_read || step.use.flags_written)) return false;
    }
    if (overwrites || step.use.flags_written) return true;
    holds &= (RegistersChanged(step) & registers) == 0;
  }
  return holds;
}

// Whether the flags of `step`, which is a shift, are put aside before there are others.
bool BlockTranslator::KeepsOperand(const Step& step) const {
  if (context_.direct || !WantsOperandKept(step, plan_)) return false;
  for (size_t i = step_ + 1u; i < steps_.size(); ++i) {
    const Step& next = steps_[i];
    const bool reached = next.how == Treatment::kMemory && Reached(next.memory);
    if (SpanStarts(static_cast<uint16_t>(i)) ||
        (!reached && ClobbersFlags(next, static_cast<uint16_t>(i))))
      return Serves(step_ + 1u, 0);
    if (next.use.flags_written) return false;
  }
  return false;
}

// The recipe after `step`, which has been emitted.
void BlockTranslator::FollowRecipe(const Step& step) {
  if (step.use.flags_written) {
    recipe_ = RecipeOf(step, plan_, kept_);
    kept_ = false;
    owed_ = false;
  } else if (RegistersChanged(step) & recipe_.registers) {
    recipe_ = {};
    owed_ = false;  // nobody wants them: Serves()
  }
}

void BlockTranslator::EmitRecipe(Assembler& code, const FlagRecipe& recipe) {
  if (leave_out_ == LeaveOut::kRecipe) return;
  if (recipe.kept) code.mov(code.r11, code.ptr[code.At(context_.state.kept)]);
  for (unsigned i = 0; i < recipe.length; ++i) code.db(recipe.bytes[i]);
}

// To memory, while the guest's registers are in their places.
void BlockTranslator::EmitOwed(Assembler& code, const FlagRecipe& recipe) {
  if (!recipe) return;
  EmitRecipe(code, recipe);
  EmitSaveFlags(code, context_);
}

void BlockTranslator::FlagsToHost(bool keep_temp1) {
  if (owed_) {
    CHECK(!keep_temp1);  // no treatment that Serves() knows asks for that
    if (recipe_.temp1) Release(kTemp1);
    EmitRecipe(hot_, recipe_);
    owed_ = false;
  } else if (flags_ == FlagHome::kMemory) {
    if (!keep_temp1) Release(kTemp1);
    EmitRestoreFlags(hot_, context_, keep_temp1);
    saved_ = true;
  }
  flags_ = FlagHome::kHost;
}

// For what leaves the other flags as it likes.
void BlockTranslator::CarryToHost() {
  if (owed_) return FlagsToHost();
  if (flags_ == FlagHome::kMemory) EmitRestoreCarry(hot_, context_);
  flags_ = FlagHome::kHost;
}

// Whether nobody sees the flags any more, from the step `first` on: they are overwritten before
// anything reads them, faults or leaves.
bool BlockTranslator::FlagsDie(size_t first) const {
  for (size_t i = first; i < steps_.size(); ++i) {
    const Step& step = steps_[i];
    const bool loads = step.vector > vectors_ || (step.x87 != X87Use::kNone && !x87_);
    if (!IsHarmless(step) || SpanStarts(static_cast<uint16_t>(i)) || loads || step.use.flags_read)
      return false;
    if (OverwritesFlags(step.insn, step.use)) return true;
  }
  return false;
}

// What comes next makes or uses flags as the guest's instruction does. One that makes only some of
// them finds any, where nobody sees the others.
void BlockTranslator::FlagsFor(const Step& step, bool keep_temp1) {
  if (OverwritesFlags(step.insn, step.use))
    flags_ = FlagHome::kHost;
  else if (step.use.flags_written && !step.use.flags_read && FlagsDie(step_ + 1u))
    flags_ = FlagHome::kHost;
  else if (NeedsOnlyCarry(step.insn))
    CarryToHost();
  else if (step.use.flags_read || step.use.flags_written)
    FlagsToHost(keep_temp1);
  if (step.use.flags_written) {
    saved_ = owed_ = false;
    recipe_ = {};
  }
}

}  // namespace bt
