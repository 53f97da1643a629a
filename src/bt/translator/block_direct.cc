// A user's code that runs where guest memory is at its linear address, or nowhere: accesses as the
// guest made them. One that may not be faults on the host, with nothing of its instruction done,
// and goes on in its cold stub, which leaves for the interpreter.
#include "bt/translator/block_translator.h"

namespace bt {

using Xbyak::Reg64;

namespace {

bool OfFsOrGs(const MemoryOperand& memory) {
  return memory.segment >= static_cast<uint8_t>(vmm::Seg::FS);
}

}  // namespace

// Whether the host's instruction can name the operand as the guest's does.
bool HasOwnAddress(const Insn& insn) {
  return insn.mem.base != MemoryOperand::kRip && !OfFsOrGs(insn.mem);
}

// What a user's code may do where it runs.
bool MayBeDirect(Treatment how) {
  switch (how) {
    case Treatment::kSelector:
    case Treatment::kClearIf:
    case Treatment::kSetIf:
    case Treatment::kSwapGs:
    case Treatment::kSetAc:
    case Treatment::kClearAc:
    case Treatment::kSystemCall:
    case Treatment::kSystemReturn:
      return false;
    default:
      return true;
  }
}

// The linear address, but for the displacement that is returned, to kTemp0. Changes no flag.
int32_t BlockTranslator::EmitDirectAddress(const Step& step) {
  const bool segment = OfFsOrGs(step.insn.mem);
  if (step.insn.mem.base == MemoryOperand::kRip && !segment) {
    hot_.mov(hot_.r10, hot_.ptr[hot_.At(context_.state.page)]);
    return static_cast<int32_t>(step.next + step.insn.mem.disp);
  }
  EmitOffset(step);
  if (!segment) return 0;
  hot_.mov(hot_.r11, hot_.ptr[hot_.At(context_.seg_base[step.insn.mem.segment])]);
  hot_.lea(hot_.r10, hot_.ptr[hot_.r10 + hot_.r11]);
  return 0;
}

BlockTranslator::Place BlockTranslator::Direct(const Step& step, const Reg64& base, int32_t disp) {
  Check check{0, AddSite(step), step.next};
  check.direct = space_.OffsetOf(hot_);
  check.flags = flags_;
  return {base, disp, check};
}

// With its own memory operand, where that can be.
void BlockTranslator::EmitDirectMemory(const Step& step) {
  const FlagHome before = flags_;
  FlagsFor(step);
  uint8_t bytes[kMaxPatched];
  const unsigned own = HasOwnAddress(step.insn) ? PatchInsn(step.insn, plan_, bytes) : 0;
  const int32_t disp = own == 0 ? EmitDirectAddress(step) : 0;
  Place place = Direct(step, hot_.r10, disp);
  place.check.flags = before;
  if (own != 0)
    EmitBytes(bytes, own);
  else
    EmitWithOperand(step, place);
  EndDirect(place.check);
  NoteX87(step);
}

// REP MOVS and REP STOS as they are: a fault leaves them between two of their parts.
void BlockTranslator::EmitDirectRepeat(const Step& step) {
  const Place place = Direct(step, hot_.r10, 0);
  EmitBytes(step.insn.bytes.data(), step.insn.length);
  EndDirect(place.check);
}

void BlockTranslator::EndDirect(const Check& check) {
  const CodeSpace::Offset stub = space_.OffsetOf(cold_);
  for (CodeSpace::Offset jump : {check.jump, check.more[0], check.more[1]}) {
    if (jump != 0) space_.PatchJump(jump, stub);
  }
  if (check.direct != 0) accesses_.Add({check.direct, space_.OffsetOf(hot_), stub});
  EmitX87Pointer(cold_);
  EmitUnrename(cold_);
  if (check.flags == FlagHome::kHost) EmitSaveFlags(cold_, context_);
  EmitLeaveForSite(cold_, check.site);
}

// With the registers at home and the flags in memory.
void BlockTranslator::EmitLeaveForSite(Assembler& code, uint32_t site) {
  code.mov(code.dword[code.At(context_.state.site)], site);
  code.mov(code.dword[code.At(context_.state.exit)], CodeState::kSite);
  space_.PatchJump(EmitJump(code), stubs_.leave);
}

}  // namespace bt
