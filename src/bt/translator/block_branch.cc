// The ways out of a block: branches, calls, returns, and what lies behind its end.
#include <utility>

#include "bt/translator/block_translator.h"
#include "bt/translator/host_registers.h"
#include "bt/translator/jump_tables.h"

namespace bt {

using Xbyak::Reg64;

// A CALL to where no address is stores nothing: leaves for the interpreter unless bits 63:47 of
// kTemp0 are alike.
BlockTranslator::Check BlockTranslator::EmitCanonicalCheck(const Step& step) {
  if (leave_out_ == LeaveOut::kCanonical) return {0, AddSite(step), step.next};
  hot_.mov(hot_.r11, hot_.r10);
  hot_.sar(hot_.r11, 47);
  hot_.inc(hot_.r11);
  hot_.cmp(hot_.r11, 1);
  hot_.db(0x0f);
  hot_.db(0x87);  // JA
  hot_.dd(0);
  return {space_.OffsetOf(hot_) - 4, AddSite(step), step.next};
}

// The target of an indirect jump or call to kTemp0.
void BlockTranslator::EmitTarget(const Step& step) {
  if (!HasMemory(step.insn)) {
    hot_.mov(hot_.r10, Reg64(plan_.gpr[step.insn.operand[0].reg]));
    return;
  }
  const Place place = ReachMemory(step, 8, false);
  ReleaseTemps();
  hot_.mov(hot_.r10, hot_.ptr[place.address()]);
  EndCheck(place.check, false);
}

void BlockTranslator::EmitBranch(const Step& step) {
  const bool ends = step.onward == Onward::kEnds;
  if (ends) {
    if (x87_at_ >= 0) Release(kTemp1);
    EmitX87Pointer(hot_);
    x87_at_ = -1;
  }
  const Reg64 sp(host_.rsp);
  const int32_t target = step.next + static_cast<int32_t>(step.insn.operand[0].imm);
  switch (step.how) {
    case Treatment::kJumpIf: {
      FlagsToHost();
      const uint8_t condition = step.insn.opcode & 0xf;
      if (step.onward == Onward::kNext) return EmitSideExit(condition, target);
      if (step.onward == Onward::kTarget) return EmitSideExit(condition ^ 1, step.next);
      if (target == Start() && context_.direct && home_ == FlagHome::kHost) {
        EmitLoopIf(condition, step.next);
        EmitUnrename(hot_);
        return EmitExit(step.next);
      }
      if (target == Start()) {
        const CodeSpace::Offset out = EmitJumpIf(hot_, condition ^ 1);
        EmitSelfLoop();
        space_.PatchJump(out, space_.OffsetOf(hot_));
        flags_ = FlagHome::kHost;
        EmitUnrename(hot_);
        return EmitExit(step.next);
      }
      EmitUnrename(hot_);
      if (LeadsBack(target)) {
        AddExit(EmitJumpIf(hot_, condition ^ 1), step.next);
        return EmitExit(target);
      }
      const CodeSpace::Offset taken = EmitJumpIf(hot_, condition);
      EmitExit(step.next);
      return AddExit(taken, target);
    }
    case Treatment::kJump:
      if (ends && owed_) FlagsToHost();
      went_back_ |= target < step.next;
      if (!ends) return;
      if (target == Start()) return EmitSelfLoop();
      EmitUnrename(hot_);
      return EmitExit(target);
    case Treatment::kReturn: {
      FlagsToMemory();
      const Place top = ReachStack(step, sp, 0, false);
      Release(kTemp0);
      const int32_t moved = 8 + StackReleased(step.insn);
      if (context_.direct)
        hot_.pop(hot_.r10);
      else
        hot_.mov(hot_.r10, hot_.ptr[top.address()]);
      MoveStack(context_.direct ? moved - 8 : moved, true);
      EndCheck(top.check, false);
      return ends ? EmitIndirectExit(hot_, step, moved) : EmitExpectedReturn(step, moved);
    }
    case Treatment::kJumpIndirect:
      FlagsToMemory();
      EmitTarget(step);
      return EmitIndirectExit(hot_, step, 0);
    default:
      break;
  }
  // Calls: the target of an indirect one waits in memory while its return address is pushed, unless
  // that needs no look-up.
  const bool indirect = step.how == Treatment::kCallIndirect;
  const bool waits = indirect && !context_.direct;
  if (indirect) {
    FlagsToMemory();
    ReleaseTemps();
    EmitTarget(step);
    EndCheck(EmitCanonicalCheck(step), false);
    if (waits) hot_.mov(hot_.ptr[hot_.At(context_.state.scratch)], hot_.r10);
  }
  const Place top = ReachStack(step, sp, -8, true);
  const Reg64 here(context_.direct ? kTemp1 : top.other());
  Release(here.getIdx());
  hot_.mov(here, hot_.ptr[hot_.At(context_.state.page)]);
  hot_.lea(here, hot_.ptr[here + step.next]);
  if (context_.direct) {
    hot_.push(here);
  } else {
    hot_.mov(hot_.ptr[top.address()], here);
    MoveStack(-8);
  }
  EndCheck(top.check, false);
  if (waits) hot_.mov(hot_.r10, hot_.ptr[hot_.At(context_.state.scratch)]);
  if (indirect) return EmitIndirectExit(hot_, step, 0);
  went_back_ |= !ends && target < step.next;
  if (!ends) return;
  if (owed_) FlagsToHost();
  EmitUnrename(hot_);
  EmitExit(target);
}

// Leaves for `target` on `condition`, while the translation goes on otherwise.
void BlockTranslator::EmitSideExit(uint8_t condition, int32_t target) {
  const CodeSpace::Offset taken = EmitJumpIf(hot_, condition);
  if (renames_.empty() && x87_at_ < 0) return AddExit(taken, target);
  space_.PatchJump(taken, space_.OffsetOf(cold_));
  EmitX87Pointer(cold_);
  EmitUnrename(cold_);
  AddExit(EmitJump(cold_), target);
}

// A return to the address in kTemp0, to what follows the call that this translation has made.
void BlockTranslator::EmitExpectedReturn(const Step& step, int32_t stack) {
  ReleaseTemps();
  hot_.mov(hot_.r11, hot_.ptr[hot_.At(context_.state.page)]);
  hot_.lea(hot_.r11, hot_.ptr[hot_.r11 + step.resume]);
  hot_.cmp(hot_.r10, hot_.r11);
  space_.PatchJump(EmitJumpIf(hot_, kNotZero), space_.OffsetOf(cold_));
  EmitX87Pointer(cold_);
  EmitUncount(steps_.size() - step_ - 1);
  EmitIndirectExit(cold_, step, stack);
}

// To the linear address in kTemp0. The flags are in memory.
void BlockTranslator::EmitIndirectExit(Assembler& code, const Step& step, int32_t stack) {
  EmitUnrename(code);
  EmitFindTarget(code, context_);
  code.cmp(code.r10, code.ptr[code.r11 + offsetof(JumpTarget, linear)]);
  const CodeSpace::Offset miss = leave_out_ == LeaveOut::kTarget ? 0 : EmitJumpIf(code, kNotZero);
  CodeSpace::Offset called = 0;
  uint32_t access = 0;
  const bool touches = context_.direct && &code == &hot_;  // accesses are in ascending order
  if (touches) {
    access = accesses_.Add(EmitTouchBell(code, context_, space_, 0));
  } else {
    code.cmp(code.dword[code.At(context_.attention)], 0);
    called = EmitJumpIf(code, kNotZero);
  }
  EmitJumpToTarget(code, context_);
  for (CodeSpace::Offset jump : {miss, called}) {
    if (jump != 0) space_.PatchJump(jump, space_.OffsetOf(cold_));
  }
  if (touches) accesses_[access].stub = space_.OffsetOf(cold_);
  cold_.mov(cold_.dword[cold_.At(context_.state.site)], AddSite(step, stack));
  space_.PatchJump(EmitJump(cold_), stubs_.indirect);
}

int32_t BlockTranslator::Start() const {
  return first_;
}

// Whether a loop may come by a way out to there: each has a jump that does not lead forward.
bool BlockTranslator::LeadsBack(int32_t target) const {
  return went_back_ || target < here_;
}

void BlockTranslator::EmitExit(int32_t target) {
  const bool in_page = static_cast<uint32_t>(target) < vmm::kPageSize;
  if (!in_page || !LeadsBack(target)) return AddExit(EmitJump(hot_), target);
  const Poll poll = EmitPoll();
  AddExit(EmitJump(hot_), target);
  exits_.back().back = false;
  EndPoll(poll, exits_.back().stub);
}

// By a comparison, for which the flags go to memory; direct code by a store, of whatever it is.
BlockTranslator::Poll BlockTranslator::EmitPoll() {
  Poll poll;
  if (context_.direct) {
    poll.flags = flags_;
    poll.access = accesses_.Add(EmitTouchBell(hot_, context_, space_, 0));
    return poll;
  }
  if (owed_)
    poll.owed = recipe_;
  else
    FlagsToMemory();
  hot_.cmp(hot_.dword[hot_.At(context_.attention)], 0);
  poll.jump = EmitJumpIf(hot_, kNotZero);
  return poll;
}

void BlockTranslator::EndPoll(const Poll& poll, CodeSpace::Offset target) {
  if (context_.direct)
    accesses_[poll.access].stub = target;
  else
    space_.PatchJump(poll.jump, target);
}

// Back to the start, with all registers where they are.
void BlockTranslator::EmitSelfLoop() {
  if (!context_.direct && home_ == FlagHome::kHost) FlagsAside();
  const Poll poll = EmitPoll();
  if (home_ == FlagHome::kMemory) FlagsToMemory();
  if (owed_ && needs_ != Needs::kNothing)
    FlagsToHost();
  else if (!owed_ && flags_ == FlagHome::kMemory)
    EmitFlagsForStart();
  owed_ = false;
  space_.PatchJump(EmitJump(hot_), start_);
  EndPoll(poll, space_.OffsetOf(cold_));
  EmitOwed(cold_, poll.owed);
  EmitLeaveAtStart(poll.flags);
}

// Direct code, with the flags in the host's: back to the start on `condition`. The bell is touched
// whether it goes there or to `next`.
void BlockTranslator::EmitLoopIf(uint8_t condition, int32_t next) {
  const uint32_t access = accesses_.Add(EmitTouchBell(hot_, context_, space_, 0));
  space_.PatchJump(EmitJumpIf(hot_, condition), start_);
  accesses_[access].stub = space_.OffsetOf(cold_);
  const CodeSpace::Offset taken = EmitJumpIf(cold_, condition);
  EmitUnrename(cold_);
  AddExit(EmitJump(cold_), next);
  space_.PatchJump(taken, space_.OffsetOf(cold_));
  EmitLeaveAtStart(FlagHome::kHost);
}

// In the cold half: leaves on the first instruction.
void BlockTranslator::EmitLeaveAtStart(FlagHome flags) {
  EmitUnrename(cold_);
  if (flags == FlagHome::kHost) EmitSaveFlags(cold_, context_);
  cold_.mov(cold_.r10, cold_.ptr[cold_.At(context_.state.page)]);
  cold_.add(cold_.r10, static_cast<uint32_t>(Start()));
  cold_.mov(cold_.ptr[cold_.At(context_.r[kRip])], cold_.r10);
  cold_.mov(cold_.dword[cold_.At(context_.state.exit)], CodeState::kLeft);
  space_.PatchJump(EmitJump(cold_), stubs_.leave);
}

uint32_t BlockTranslator::AddSite(const Step& step, int32_t stack) {
  const auto behind = static_cast<uint8_t>(&steps_.back() - &step);
  return sites_.Add({step.op, translation_->number, step.next, behind, stack != 0});
}

// The cold stub leaves for the run-time, which may link the jump.
void BlockTranslator::AddExit(CodeSpace::Offset jump, int32_t target, bool plain) {
  jump = EmitUncount(jump, plain);
  if (owed_) {
    space_.PatchJump(jump, space_.OffsetOf(cold_));
    EmitRecipe(cold_, recipe_);
    jump = EmitJump(cold_);
  }
  const FlagHome flags = owed_ ? FlagHome::kHost : flags_;
  const CodeSpace::Offset stub = space_.OffsetOf(cold_);
  space_.PatchJump(jump, stub);
  if (flags == FlagHome::kHost) EmitSaveFlags(cold_, context_);
  cold_.mov(cold_.dword[cold_.At(context_.state.exit)], exits_.next());
  space_.PatchJump(EmitJump(cold_), stubs_.leave);
  exits_.Add({.jump = jump,
              .stub = stub,
              .target = target,
              .from = translation_->number,
              .flags = flags,
              .plain = plain,
              .back = plain ? went_back_ : LeadsBack(target)});
}

// The flags are in memory on this way.
void BlockTranslator::AddExitFromMemory(CodeSpace::Offset jump, int32_t target, bool plain) {
  const FlagHome flags = std::exchange(flags_, FlagHome::kMemory);
  const bool owed = std::exchange(owed_, false);
  AddExit(jump, target, plain);
  flags_ = flags;
  owed_ = owed;
}

}  // namespace bt
