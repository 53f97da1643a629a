// The ways into a translation, and where the flags have to be there.
#include "bt/translator/block_translator.h"

namespace bt {

// Both ways in, of which the one that the block begins with costs nothing.
void BlockTranslator::EmitEntry(Translation& translation) {
  flags_ = FlagHome::kHost;
  vectors_ = VectorUse::kNone;
  x87_ = false;
  x87_at_ = -1;
  needs_ = Needs::kAll;
  for (const Step& step : steps_) {
    const bool clobbers = translation.second_page != 0 ||
                          ClobbersFlags(step, static_cast<uint16_t>(&step - steps_.data()));
    if (clobbers) flags_ = FlagHome::kMemory;
    if (!clobbers && MayFault(step)) {  // which shows them
      if (wanted_ == FlagHome::kMemory && OnlyFaultsShowFlags()) flags_ = FlagHome::kMemory;
      break;
    }
    if (!clobbers && OverwritesFlags(step.insn, step.use)) needs_ = Needs::kNothing;
    if (!clobbers && NeedsOnlyCarry(step.insn)) needs_ = Needs::kCarry;
    if (clobbers || step.how == Treatment::kJumpIf || step.use.flags_read ||
        step.use.flags_written) {
      break;
    }
  }
  if (counting_ == Counting::kBounded) {  // a block that is left at once has them in memory
    flags_ = FlagHome::kMemory;
    needs_ = Needs::kAll;
  }
  const auto here = [this] { return space_.OffsetOf(hot_); };
  const FlagHome other = flags_ == FlagHome::kHost ? FlagHome::kMemory : FlagHome::kHost;
  translation.entry[static_cast<unsigned>(other)] = here();
  if (needs_ != Needs::kNothing && other == FlagHome::kHost) EmitSaveFlags(hot_, context_);
  home_ = flags_;
  if (other == FlagHome::kMemory) EmitFlagsForStart();
  translation.entry[static_cast<unsigned>(flags_)] = here();
  if (leave_out_ != LeaveOut::kBorrow) EmitRename(hot_);
  EmitCheckTail();  // where it fails they are taken home
  start_ = here();
  EmitCount();
}

// Whether the flags that it begins with may as well stay in memory: nobody uses them before they
// get others, and no loop comes by that would have to store them.
bool BlockTranslator::OnlyFaultsShowFlags() const {
  const Step& last = steps_.back();
  if (IsBranch(last.how) && last.next + static_cast<int64_t>(last.insn.operand[0].imm) == Start())
    return false;
  for (const Step& step : steps_) {
    if (OverwritesFlags(step.insn, step.use)) return true;
    if (step.how == Treatment::kJumpIf || step.use.flags_read || step.use.flags_written)
      return false;
  }
  return true;
}

// Whether what is emitted for `step` has flags of its own.
bool BlockTranslator::ClobbersFlags(const Step& step, uint16_t index) const {
  switch (step.how) {
    case Treatment::kNothing:
    case Treatment::kAddress:
    case Treatment::kSelector:
    case Treatment::kJumpIf:
    case Treatment::kJump:
      return SpanStarts(index);
    case Treatment::kCopy:
      if (context_.direct) return false;
      return SpanStarts(index) || step.vector != VectorUse::kNone || step.x87 != X87Use::kNone;
    default:
      return !MayFault(step);
  }
}

// Whether it accesses memory without a check before it.
bool BlockTranslator::MayFault(const Step& step) const {
  switch (step.how) {
    case Treatment::kMemory:
    case Treatment::kBitString:
    case Treatment::kRepeat:
    case Treatment::kPush:
    case Treatment::kPop:
    case Treatment::kLeave:
    case Treatment::kCall:
      return context_.direct;
    default:
      return false;
  }
}

// The flags are in memory; the start may need some of them in the host's.
void BlockTranslator::EmitFlagsForStart() {
  if (home_ == FlagHome::kMemory) return;
  if (needs_ == Needs::kCarry) EmitRestoreCarry(hot_, context_);
  if (needs_ == Needs::kAll) EmitRestoreFlags(hot_, context_);
}

// Leaves before the first instruction unless the page of the block's tail is where it was.
void BlockTranslator::EmitCheckTail() {
  if (translation_->second_page == 0 || leave_out_ == LeaveOut::kTail) return;
  EmitComparePage(hot_, context_, static_cast<int32_t>(vmm::kPageSize), translation_->second_page);
  space_.PatchJump(EmitJumpIf(hot_, kNotZero), space_.OffsetOf(cold_));
  EmitLeaveAtStart(FlagHome::kMemory);
}

}  // namespace bt
