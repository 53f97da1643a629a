#include "bt/translator/block_translator.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "bt/interp/fpu.h"
#include "bt/isa/decoder.h"
#include "bt/translator/host_registers.h"
#include "bt/translator/repeat_stubs.h"

namespace bt {
namespace {

using Xbyak::Reg64;

bool FitsInt32(int64_t value) {
  return value == static_cast<int32_t>(value);
}

// RIP-relative operands become relative to the page of the block.
bool RipRelative(const Insn& insn) {
  return insn.mem.base == MemoryOperand::kRip;
}

}  // namespace

// Whether the patcher can do what the treatment asks of it.
bool BlockTranslator::Expressible(const Step& step) const {
  uint8_t bytes[kMaxPatched];
  PatchPlan plan = plan_;
  const bool reaches = !RipRelative(step.insn) ||
                       (step.insn.address_bits == 64 && FitsInt32(step.next + step.insn.mem.disp));
  const bool addresses =
      RipRelative(step.insn) ? reaches : EmitAddress(step.insn, plan, kTemp0, bytes) != 0;
  switch (step.how) {
    case Treatment::kCopy:
      return PatchInsn(step.insn, plan, bytes) != 0;
    case Treatment::kPush:
    case Treatment::kPop:
    case Treatment::kLeave:
      if (!context_.direct) return !HasMemory(step.insn) || addresses;
      if (!HasMemory(step.insn)) return PatchInsn(step.insn, plan, bytes) != 0;
      [[fallthrough]];
    case Treatment::kMemory:
      if (context_.direct && HasOwnAddress(step.insn) && PatchInsn(step.insn, plan, bytes) != 0)
        return true;
      if (TempsLent()) return false;
      plan.replace_memory = true;
      plan.memory_disp = kMaxSpan;  // as long as one can get
      return addresses && MemoryBytes(step.insn) != 0 && PatchInsn(step.insn, plan, bytes) != 0;
    case Treatment::kBitString:
      plan.replace_memory = true;
      return addresses && (!context_.direct || PatchInsn(step.insn, plan, bytes) != 0);
    case Treatment::kAddress:
      return RipRelative(step.insn) ? reaches && step.insn.operand_bits == 64
                                    : PatchInsn(step.insn, plan, bytes) != 0;
    case Treatment::kDivide:
    case Treatment::kLoadMxcsr:
    case Treatment::kJumpIndirect:
    case Treatment::kCallIndirect:
      return !HasMemory(step.insn) || addresses;
    case Treatment::kJump:
    case Treatment::kJumpIf:
    case Treatment::kCall:
      return FitsInt32(step.next + static_cast<int64_t>(step.insn.operand[0].imm));
    default:
      return true;
  }
}

bool BlockTranslator::Translate(const BlockPath& path, bool plain, Translation& translation,
                                FlagHome wanted) {
  wanted_ = wanted;
  translation_ = &translation;
  glimpse_ = &path.glimpse();
  first_ = path.parts().front().start;
  steps_.clear();
  path.Decode(features_, context_.direct, steps_);
  if (!ChooseRegisters()) return false;
  if (steps_.back().how == Treatment::kSetIf) steps_.back().how = Treatment::kInterpreter;
  for (Step& step : steps_) {
    if (!Expressible(step)) {
      step.how = Treatment::kInterpreter;
      step.vector = VectorUse::kNone;
      step.x87 = X87Use::kNone;
    }
  }
  if (context_.direct) {  // leaves for the interpreter, and does not come back
    const auto site = std::find_if(steps_.begin(), steps_.end(), [](const Step& step) {
      return step.how == Treatment::kInterpreter;
    });
    if (site != steps_.end()) steps_.erase(site + 1, steps_.end());
  }
  spans_.clear();
  if (!plain && !context_.direct) spans_ = FindSpans(steps_);
  held_ = {};
  recent_ = 0;
  stack_moves_ = 0;
  saved_ = went_back_ = owed_ = kept_ = false;
  recipe_ = {};
  changed_ = 0;
  translation.plain = spans_.empty();
  translation.instructions = static_cast<uint16_t>(steps_.size());
  EmitEntry(translation);
  for (step_ = 0; step_ < steps_.size(); ++step_) {
    EmitStep(steps_[step_]);
    FollowRecipe(steps_[step_]);
    changed_ |= RegistersChanged(steps_[step_]);
  }
  const Step& last = steps_.back();
  if (!IsBranch(last.how) && !(context_.direct && last.how == Treatment::kInterpreter)) {
    if (owed_) FlagsToHost();
    EmitX87Pointer(hot_);
    EmitUnrename(hot_);
    EmitExit(last.next);
  }
  return true;
}

void BlockTranslator::EmitStep(const Step& step) {
  here_ = step.next;
  if (TempsLent() && &step == &steps_.back() && NeedsTemps(step)) ReturnTemps();
  EmitSpanChecks(step);
  switch (step.how) {
    case Treatment::kInterpreter:
      return EmitInterpreter(step, stubs_.run_site);
    case Treatment::kRepeat:
      if (context_.direct) return EmitDirectRepeat(step);
      return EmitInterpreter(step, stubs_.repeat[*RepeatIndex(step.insn)]);
    case Treatment::kNothing:
      return;
    case Treatment::kCopy:
      return EmitCopy(step);
    case Treatment::kMemory:
      return EmitMemory(step);
    case Treatment::kAddress:
      return EmitLea(step);
    case Treatment::kBitString:
      return EmitBitString(step);
    case Treatment::kSelector:
      return EmitSelector(step);
    case Treatment::kDivide:
      return EmitDivide(step);
    case Treatment::kLoadMxcsr:
      return EmitLoadMxcsr(step);
    case Treatment::kPushFlags:
      return EmitPushFlags(step);
    case Treatment::kClearIf:
    case Treatment::kSetIf:
    case Treatment::kSwapGs:
    case Treatment::kSetAc:
    case Treatment::kClearAc:
    case Treatment::kSystemCall:
    case Treatment::kSystemReturn:
      return EmitSystem(step);
    case Treatment::kPush:
    case Treatment::kPop:
    case Treatment::kLeave:
      return EmitStack(step);
    default:
      return EmitBranch(step);
  }
}

void BlockTranslator::EmitBytes(const uint8_t* bytes, unsigned count) {
  hot_.Put(bytes, count);
}

void BlockTranslator::EmitCopy(const Step& step) {
  EnsureRegisters(step);
  FlagsFor(step);
  kept_ = KeepsOperand(step);
  if (kept_) {
    const Reg64 operand(plan_.gpr[step.insn.operand[0].reg]);
    hot_.mov(hot_.ptr[hot_.At(context_.state.kept)], operand);
  }
  uint8_t bytes[kMaxPatched];
  const unsigned length = PatchInsn(step.insn, plan_, bytes);
  if (const uint16_t slot = step.use.gpr_read & plan_.in_memory; slot != 0) {
    const auto reg = static_cast<unsigned>(std::countr_zero(slot));
    plan_.slot_disp = hot_.DisplacementTo(context_.r[reg], length);
    PatchInsn(step.insn, plan_, bytes);
  }
  EmitBytes(bytes, length);
  NoteX87(step);
}

void BlockTranslator::EmitMemory(const Step& step) {
  if (context_.direct) return EmitDirectMemory(step);
  EnsureRegisters(step);
  if (Reached(step.memory)) FlagsFor(step);
  const Place place = ReachMemory(step, MemoryBytes(step.insn), step.use.memory_written);
  if (!Reached(step.memory)) FlagsFor(step);
  EmitWithOperand(step, place);
  EndCheck(place.check, true);
  NoteX87(step);
}

// A copy with its memory operand at `place`.
void BlockTranslator::EmitWithOperand(const Step& step, const Place& place) {
  PatchPlan plan = plan_;
  plan.replace_memory = true;
  plan.memory_base = static_cast<uint8_t>(place.base.getIdx());
  plan.memory_disp = place.disp;
  uint8_t bytes[kMaxPatched];
  EmitBytes(bytes, PatchInsn(step.insn, plan, bytes));
}

void BlockTranslator::EmitLea(const Step& step) {
  if (!RipRelative(step.insn)) {
    uint8_t bytes[kMaxPatched];
    EmitBytes(bytes, PatchInsn(step.insn, plan_, bytes));
    return;
  }
  const Reg64 to(plan_.gpr[step.insn.operand[0].reg]);
  hot_.mov(to, hot_.ptr[hot_.At(context_.state.page)]);
  hot_.lea(to, hot_.ptr[to + static_cast<int32_t>(step.next + step.insn.mem.disp)]);
}

// Divides where that is sure to fit; the interpreter does the rest, and raises #DE. The flags,
// undefined after it, stay as they were, as the interpreter leaves them.
void BlockTranslator::EmitDivide(const Step& step) {
  FlagsToMemory();
  ReleaseTemps();
  const bool wide = step.insn.operand[0].bits == 64;
  const auto sized = [wide](const Reg64& reg) -> Xbyak::Reg {
    if (wide) return reg;
    return reg.cvt32();
  };
  const Xbyak::Reg divisor = sized(hot_.r10), scratch = sized(hot_.r11);
  Check check{0, 0, step.next};
  if (HasMemory(step.insn)) {
    const Place place = ReachMemory(step, MemoryBytes(step.insn), false);
    ReleaseTemps();
    hot_.mov(divisor, hot_.ptr[place.address()]);
    if (place.check.any()) check = place.check;
  } else {
    hot_.mov(divisor, sized(Reg64(plan_.gpr[step.insn.operand[0].reg])));
  }
  if (!check.any()) check.site = AddSite(step);
  if (step.insn.mnemonic == Mnemonic::DIV) {
    hot_.cmp(sized(hot_.rdx), divisor);
    check.more[0] = EmitJumpIf(hot_, kNotBelow);
    hot_.div(divisor);
  } else {  // rDX is the sign of rAX, and the divisor neither 0 nor -1
    hot_.mov(scratch, sized(hot_.rax));
    hot_.sar(scratch, wide ? 63 : 31);
    hot_.cmp(scratch, sized(hot_.rdx));
    check.more[0] = EmitJumpIf(hot_, kNotZero);
    hot_.lea(scratch, hot_.ptr[hot_.r10 + 1]);
    hot_.cmp(scratch, 1);
    check.more[1] = EmitJumpIf(hot_, kNotAbove);
    hot_.idiv(divisor);
  }
  EndCheck(check, true);
}

// An address relative to the page of the block to kTemp0. Changes no flag.
void BlockTranslator::EmitPageOffset(int32_t offset) {
  hot_.mov(hot_.r10, hot_.ptr[hot_.At(context_.state.page)]);
  hot_.lea(hot_.r10, hot_.ptr[hot_.r10 + offset]);
}

// The offset of the memory operand in its segment to kTemp0. Changes no flag.
void BlockTranslator::EmitOffset(const Step& step) {
  if (RipRelative(step.insn))
    return EmitPageOffset(static_cast<int32_t>(step.next + step.insn.mem.disp));
  uint8_t bytes[kMaxPatched];
  EmitBytes(bytes, EmitAddress(step.insn, plan_, kTemp0, bytes));
}

// Its linear address to kTemp0. The flags are in memory.
void BlockTranslator::EmitEffective(const Step& step) {
  EmitOffset(step);
  EmitSegmentBase(step.insn.mem.segment);
}

void BlockTranslator::EmitSegmentBase(uint8_t segment) {
  if (segment >= static_cast<uint8_t>(vmm::Seg::FS))
    hot_.add(hot_.r10, hot_.ptr[hot_.At(context_.seg_base[segment])]);
}

void BlockTranslator::EndCheck(const Check& check, bool resumes) {
  if (!check.any()) return;
  if (context_.direct) return EndDirect(check);
  for (CodeSpace::Offset jump : {check.jump, check.more[0], check.more[1]}) {
    if (jump != 0) space_.PatchJump(jump, space_.OffsetOf(cold_));
  }
  EmitOwed(cold_, check.owed);
  EmitX87Pointer(cold_);
  EmitUnrename(cold_);
  EmitRunSite(cold_, check.site);
  if (!resumes) {
    cold_.ud2();
    return;
  }
  if (SpansLive() && leave_out_ != LeaveOut::kSpanKept) {
    return AddExitFromMemory(EmitJump(cold_), check.next);
  }
  EmitExitUnlessRegisters(check.next);
  EmitRename(cold_);
  FollowRecipe(steps_[step_]);
  if (recipe_)
    EmitRecipe(cold_, recipe_);
  else if (flags_ == FlagHome::kHost)
    EmitRestoreFlags(cold_, context_);
  space_.PatchJump(EmitJump(cold_), space_.OffsetOf(hot_));
}

CodeSpace::Offset BlockTranslator::EmitJumpIf(Assembler& code, uint8_t condition) {
  const uint8_t bytes[] = {0x0f, static_cast<uint8_t>(0x80 | condition), 0, 0, 0, 0};
  code.Put(bytes, sizeof(bytes));
  return space_.OffsetOf(code) - 4;
}

// A JMP without a target yet; the place of its displacement.
CodeSpace::Offset BlockTranslator::EmitJump(Assembler& code) {
  const uint8_t bytes[] = {0xe9, 0, 0, 0, 0};
  code.Put(bytes, sizeof(bytes));
  return space_.OffsetOf(code) - 4;
}

void BlockTranslator::EmitCall(Assembler& code, CodeSpace::Offset target) {
  code.db(0xe8);
  code.dd(0);
  space_.PatchJump(space_.OffsetOf(code) - 4, target);
}

void BlockTranslator::EmitRunSite(Assembler& code, uint32_t site) {
  code.mov(code.r10d, site);
  EmitCall(code, stubs_.run_site);
}

// The interpreter has run an instruction of a block that counts on vector or x87 registers: loads
// them, or leaves the block before the next instruction. The flags are in memory, the registers at
// home.
void BlockTranslator::EmitExitUnlessRegisters(int32_t next) {
  if (vectors_ == VectorUse::kNone && !x87_) return;
  EmitCall(cold_, x87_ ? stubs_.load_x87 : stubs_.load_vectors);
  cold_.cmp(cold_.r10d, static_cast<uint32_t>(std::max(vectors_, VectorUse::kSse)));
  const CodeSpace::Offset refused = EmitJumpIf(cold_, kBelow);
  const CodeSpace::Offset loaded = EmitJump(cold_);
  AddExitFromMemory(refused, next);
  space_.PatchJump(loaded, space_.OffsetOf(cold_));
}

// Before the first instruction that uses vector or x87 registers. Where the guest may not, the
// interpreter runs the instruction, and what comes after it is another block.
void BlockTranslator::EnsureRegisters(const Step& step) {
  if (context_.direct) return;  // they are there
  const bool x87 = step.x87 != X87Use::kNone;
  if (step.vector <= vectors_ && (!x87 || x87_)) return;
  if (leave_out_ == LeaveOut::kRegisters) return;
  const uint32_t wanted = x87 ? 1 : static_cast<uint32_t>(step.vector);
  FlagsToMemory();
  ReleaseTemps();
  hot_.cmp(hot_.dword[hot_.At(x87 ? context_.state.x87 : context_.state.vector)], wanted);
  space_.PatchJump(EmitJumpIf(hot_, kBelow), space_.OffsetOf(cold_));
  EmitCall(cold_, x87 ? stubs_.load_x87 : stubs_.load_vectors);
  cold_.cmp(cold_.r10d, wanted);
  space_.PatchJump(EmitJumpIf(cold_, kNotBelow), space_.OffsetOf(hot_));
  EmitX87Pointer(cold_);
  EmitUnrename(cold_);
  EmitRunSite(cold_, AddSite(step));
  AddExit(EmitJump(cold_), step.next);
  if (x87)
    x87_ = true;
  else
    vectors_ = step.vector;
}

}  // namespace bt
