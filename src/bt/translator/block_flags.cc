// Where the guest's arithmetic flags are: in the host's, or in memory.
#include "bt/translator/block_translator.h"
#include "bt/translator/host_registers.h"

namespace bt {

// The flags are in memory; the start may need some of them in the host's.
void BlockTranslator::EmitFlagsForStart() {
  if (home_ == FlagHome::kMemory) return;
  if (needs_ == Needs::kCarry) EmitRestoreCarry(hot_, context_);
  if (needs_ == Needs::kAll) EmitRestoreFlags(hot_, context_);
}

void BlockTranslator::FlagsToMemory() {
  if (flags_ == FlagHome::kHost && !saved_ && leave_out_ != LeaveOut::kFlags) {
    Release(kTemp1);
    EmitSaveFlags(hot_, context_);
  }
  flags_ = FlagHome::kMemory;
}

void BlockTranslator::FlagsToHost() {
  if (flags_ == FlagHome::kMemory) {
    Release(kTemp1);
    EmitRestoreFlags(hot_, context_);
    saved_ = true;
  }
  flags_ = FlagHome::kHost;
}

// For what leaves the other flags as it likes.
void BlockTranslator::CarryToHost() {
  if (flags_ == FlagHome::kMemory) EmitRestoreCarry(hot_, context_);
  flags_ = FlagHome::kHost;
}

// What comes next makes or uses flags as the guest's instruction does.
void BlockTranslator::FlagsFor(const Step& step) {
  if (OverwritesFlags(step.insn, step.use))
    flags_ = FlagHome::kHost;
  else if (NeedsOnlyCarry(step.insn))
    CarryToHost();
  else if (step.use.flags_read || step.use.flags_written)
    FlagsToHost();
  if (step.use.flags_written) saved_ = false;
}

}  // namespace bt
