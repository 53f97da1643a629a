// The pointers of x87, which translated code keeps by itself, and MXCSR.
#include "bt/interp/fpu.h"
#include "bt/translator/block_translator.h"

namespace bt {

// FIP is the address of the last x87 instruction: told before anybody may look.
void BlockTranslator::EmitX87Pointer(Assembler& code) {
  if (x87_at_ < 0) return;
  code.mov(code.r11, code.ptr[code.At(context_.state.page)]);
  code.lea(code.r11, code.ptr[code.r11 + x87_at_]);
  code.mov(code.ptr[code.At(context_.fpu[FpuState::kFip])], code.r11);
}

// After a copied x87 instruction: FDP is the offset of the last memory operand.
void BlockTranslator::NoteX87(const Step& step) {
  if (step.x87 != X87Use::kOperation) return;
  x87_at_ = step.next - step.insn.length;
  if (step.how != Treatment::kMemory) return;
  Release(kTemp0);
  EmitOffset(step);
  hot_.mov(hot_.ptr[hot_.At(context_.fpu[FpuState::kFdp])], hot_.r10);
}

// LDMXCSR of a value that leaves every exception masked: others are the interpreter's, as is all
// that such an exception could come of.
void BlockTranslator::EmitLoadMxcsr(const Step& step) {
  EnsureRegisters(step);
  FlagsToMemory();
  ReleaseTemps();
  const Place place = ReachMemory(step, 4, false);
  const Xbyak::Reg32 value(place.other());
  hot_.mov(value, hot_.dword[place.address()]);
  hot_.mov(hot_.dword[hot_.At(context_.state.scratch)], value);
  hot_.and_(value, kMxcsrMasks | kMxcsrMisaligned | ~TheHostFpu().mxcsr_mask);
  hot_.cmp(value, kMxcsrMasks);
  Check check = place.check;
  check.more[1] = EmitJumpIf(hot_, kNotZero);
  hot_.ldmxcsr(hot_.dword[hot_.At(context_.state.scratch)]);
  EndCheck(check, true);
}

}  // namespace bt
