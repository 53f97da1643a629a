// PUSH, POP, LEAVE and PUSHFQ.
#include <utility>

#include "bt/translator/block_translator.h"
#include "bt/translator/host_registers.h"
#include "bt/translator/system_stubs.h"

namespace bt {

using Xbyak::Reg64;

// RSP moves by `bytes`, at once for a run of pushes and pops none of which can fault.
void BlockTranslator::MoveStack(int32_t bytes, bool at_once) {
  stack_moves_ += bytes;
  if (!at_once && step_ + 1u < steps_.size() && MovesStackOnly(steps_[step_ + 1]) &&
      !SpanStarts(step_ + 1))
    return;
  const Reg64 sp(host_.rsp);
  if (const int32_t moves = std::exchange(stack_moves_, 0)) hot_.lea(sp, hot_.ptr[sp + moves]);
}

// In a span, and with no other use of RSP.
bool BlockTranslator::MovesStackOnly(const Step& step) const {
  if (!Reached(step.stack)) return false;
  const Operand& operand = step.insn.operand[0];
  switch (step.how) {
    case Treatment::kPush:
      return operand.kind == OperandKind::kImm ||
             (operand.kind == OperandKind::kReg && operand.reg != kGuestRsp);
    case Treatment::kPop:
      return operand.reg != kGuestRsp;
    case Treatment::kCall:
    case Treatment::kReturn:
      return true;
    default:
      return false;
  }
}

void BlockTranslator::EmitStack(const Step& step) {
  const Reg64 sp(host_.rsp);
  if (context_.direct) return EmitDirectMemory(step);
  if (step.how == Treatment::kLeave) {
    const Place place = ReachStack(step, hot_.rbp, 0, false);
    hot_.lea(sp, hot_.ptr[hot_.rbp + 8]);
    hot_.mov(hot_.rbp, hot_.ptr[place.address()]);
    return EndCheck(place.check, true);
  }
  const Operand& operand = step.insn.operand[0];
  if (step.how == Treatment::kPop) {
    const Place place = ReachStack(step, sp, 0, false);
    hot_.mov(Reg64(plan_.gpr[operand.reg]), hot_.ptr[place.address()]);
    if (operand.reg != kGuestRsp) MoveStack(8);
    return EndCheck(place.check, true);
  }
  Check check{};
  const bool memory = operand.kind == OperandKind::kMem;
  if (memory) {
    const Place from = ReachMemory(step, 8, false);
    check = from.check;
    const Reg64 value(from.other());
    Release(from.other());
    hot_.mov(value, hot_.ptr[from.address()]);
    hot_.mov(hot_.ptr[hot_.At(context_.state.scratch)], value);
  }
  const Place to = ReachStack(step, sp, -8, true);
  if (memory) {
    const Reg64 value(to.other());
    Release(to.other());
    hot_.mov(value, hot_.ptr[hot_.At(context_.state.scratch)]);
    hot_.mov(hot_.ptr[to.address()], value);
  } else if (operand.kind == OperandKind::kImm) {
    hot_.mov(hot_.qword[to.address()], static_cast<int32_t>(operand.imm));
  } else {
    hot_.mov(hot_.ptr[to.address()], Reg64(plan_.gpr[operand.reg]));
  }
  MoveStack(-8);
  if (to.check.any()) {
    check = {.jump = to.check.jump,
             .site = to.check.site,
             .next = to.check.next,
             .owed = to.check.owed,
             .more = {check.more[0], check.jump},
             .flags = to.check.flags};
  }
  EndCheck(check, true);
}

// PUSHFQ: what Cpu::Rflags() says, without RF.
void BlockTranslator::EmitPushFlags(const Step& step) {
  FlagsToMemory();
  ReleaseTemps();
  const Reg64 sp(host_.rsp);
  EmitGetFlags(hot_, context_);
  hot_.and_(hot_.r11, ~static_cast<uint32_t>(eflags::RF | eflags::VM));
  hot_.mov(hot_.ptr[hot_.At(context_.state.scratch)], hot_.r11);
  const Place to = ReachStack(step, sp, -8, true);
  const Reg64 value(to.other());
  Release(to.other());
  hot_.mov(value, hot_.ptr[hot_.At(context_.state.scratch)]);
  hot_.mov(hot_.ptr[to.address()], value);
  MoveStack(-8);
  EndCheck(to.check, true);
}

}  // namespace bt
