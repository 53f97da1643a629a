// Where the guest's registers without a host register of their own are in one translation.
#include <algorithm>
#include <bit>

#include "bt/translator/block_translator.h"

namespace bt {
namespace {

using Xbyak::Reg64;

unsigned Count(uint16_t registers) {
  return static_cast<unsigned>(std::popcount(static_cast<unsigned>(registers)));
}

bool IsTemp(uint8_t host) {
  return host == kTemp0 || host == kTemp1;
}

bool UsesStack(Treatment how) {
  switch (how) {
    case Treatment::kPush:
    case Treatment::kPushFlags:
    case Treatment::kPop:
    case Treatment::kLeave:
    case Treatment::kCall:
    case Treatment::kCallIndirect:
    case Treatment::kReturn:
      return true;
    default:
      return false;
  }
}

}  // namespace

// Whether direct code for the step has a use of its own for kTemp0 or kTemp1.
bool BlockTranslator::NeedsTemps(const Step& step) const {
  if (step.x87 != X87Use::kNone) return true;
  switch (step.how) {
    case Treatment::kNothing:
    case Treatment::kCopy:
    case Treatment::kAddress:
    case Treatment::kRepeat:
    case Treatment::kPop:
    case Treatment::kLeave:
    case Treatment::kJump:
    case Treatment::kJumpIf:
      return false;
    case Treatment::kPush:
      return HasMemory(step.insn) && !HasOwnAddress(step.insn);
    case Treatment::kMemory:
      return !HasOwnAddress(step.insn);
    default:
      return true;
  }
}

// Which of the homeless registers can be in the host's of the same number.
uint16_t BlockTranslator::Homes() const {
  // What compares pages, counts and keeps the flags of code entered by a bounded turn uses temps.
  const bool temps =
      context_.direct && counting_ == Counting::kNone && translation_->second_page == 0;
  return (context_.direct ? 0 : 1 << host_.rsp) | (temps ? 1 << kTemp0 | 1 << kTemp1 : 0);
}

// Those of `homes` that the step leaves free.
uint16_t BlockTranslator::HomesBeside(const Step& step, uint16_t homes) const {
  const uint16_t registers = step.use.gpr_read | step.use.gpr_written;
  if (UsesStack(step.how) || (registers >> kGuestRsp & 1)) homes &= ~(1 << host_.rsp);
  // The last one may have them back: it names none of what they hold.
  const bool last = step.onward == Onward::kEnds &&
                    (step.how == Treatment::kReturn || step.how == Treatment::kCall);
  if (NeedsTemps(step) && !last && step.how != Treatment::kInterpreter)
    homes &= ~(1 << kTemp0 | 1 << kTemp1);
  return homes;
}

// Those of `slots` that the step has from memory, or does not name.
uint16_t BlockTranslator::SlotsBeside(const Step& step, uint16_t slots) const {
  const uint16_t named = step.use.gpr_read | step.use.gpr_written;
  for (unsigned reg = 0; reg < 16; ++reg) {
    if (!(named & slots & (1 << reg))) continue;
    if (step.how != Treatment::kCopy || !MayReadSlot(step.insn, reg))
      slots &= static_cast<uint16_t>(~(1 << reg));
  }
  return slots;
}

// Gives each homeless register that the translation names one of the host's: that of the same
// number if it is free, else one that is borrowed, unless it is only read and may stay in memory.
// Ends early where there are not enough.
bool BlockTranslator::ChooseRegisters() {
  uint16_t used = 0, written = 0, homes = Homes(), slots = host_.homeless;
  for (size_t i = 0; i < steps_.size(); ++i) {
    const Step& step = steps_[i];
    uint16_t with = used, slots_beside = slots;
    const uint16_t beside = HomesBeside(step, homes);
    if (step.how != Treatment::kInterpreter) {
      with |= step.use.gpr_read | step.use.gpr_written;
      slots_beside = SlotsBeside(step, slots);
    }
    if (Count(with & host_.homeless & ~(beside | slots_beside)) > Count(host_.at_home & ~with)) {
      steps_.resize(i);
      if (i > 0) steps_.back().onward = Onward::kEnds;
      break;
    }
    used = with;
    homes = beside;
    slots = slots_beside;
    if (step.how != Treatment::kInterpreter) written |= step.use.gpr_written;
  }
  plan_ = PatchPlan{};
  plan_.gpr = host_.Map();
  plan_.memory_base = kTemp0;
  renames_.clear();
  uint16_t free = host_.at_home & ~used;
  for (uint8_t guest = 0; guest < 16; ++guest) {
    if (!(used & host_.homeless & (1 << guest))) continue;
    uint8_t host = guest;
    if (!(homes >> guest & 1)) {
      if (slots >> guest & 1) {
        plan_.in_memory |= static_cast<uint16_t>(1 << guest);
        continue;
      }
      host = static_cast<uint8_t>(std::bit_width(free) - 1);
      free &= static_cast<uint16_t>(~(1 << host));
    }
    renames_.push_back({guest, host, (written >> guest & 1) != 0});
    plan_.gpr[guest] = host;
  }
  return !steps_.empty();
}

bool BlockTranslator::TempsLent() const {
  return std::any_of(renames_.begin(), renames_.end(),
                     [](const Rename& rename) { return IsTemp(rename.host); });
}

// What they hold goes home for good.
void BlockTranslator::ReturnTemps() {
  std::erase_if(renames_, [this](const Rename& rename) {
    if (IsTemp(rename.host))
      hot_.mov(hot_.ptr[hot_.At(context_.r[rename.guest])], Reg64(rename.host));
    return IsTemp(rename.host);
  });
}

void BlockTranslator::EmitRename(Assembler& code) {
  for (const Rename& rename : renames_) {
    if (!IsTemp(rename.host))
      code.mov(code.ptr[code.At(context_.r[host_.SlotOf(rename.host)])], Reg64(rename.host));
    code.mov(Reg64(rename.host), code.ptr[code.At(context_.r[rename.guest])]);
  }
}

void BlockTranslator::EmitUnrename(Assembler& code) {
  for (const Rename& rename : renames_) {
    const bool temp = IsTemp(rename.host);
    if (rename.written || temp)
      code.mov(code.ptr[code.At(context_.r[rename.guest])], Reg64(rename.host));
    if (!temp)
      code.mov(Reg64(rename.host), code.ptr[code.At(context_.r[host_.SlotOf(rename.host)])]);
  }
}

}  // namespace bt
