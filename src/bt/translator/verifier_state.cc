#include "bt/translator/verifier_state.h"

#include "bt/translator/treatment.h"
#include "vmm/core/base/types.h"

namespace bt {

VerifierState VerifierState::Answered(Mnemonic jump, bool taken) const {
  VerifierState state = *this;
  const bool not_above = jump == Mnemonic::JNBE && !taken;
  const bool not_below = (jump == Mnemonic::JB && !taken) || (jump == Mnemonic::JNB && taken);
  const bool zero = jump == Mnemonic::JNZ && !taken;
  if (state.asked == Asked::kSize && not_above) {
    state.temp0 = Temp0::kInPage;
    state.size = state.value;
  }
  if (state.asked == Asked::kTarget && zero && state.temp1 == Temp1::kEntry)
    state.temp1 = Temp1::kTarget;
  if (state.asked == Asked::kPage && zero && state.temp0 == Temp0::kNear) {
    state.temp0 = Temp0::kFound;
    state.near.page = state.value;
    if (state.running == Place{} && state.near.distance == vmm::kPageSize) state.tail = state.value;
  }
  if (state.asked == Asked::kAlignment && zero) state.alignment = state.value;
  if (not_below && state.asked == Asked::kLoaded && state.value > 0) {
    if (state.temp0 == Temp0::kX87) state.x87 = true;
    state.vectors = std::max(state.permitted, state.value);
  }
  if (not_below && state.asked == Asked::kVectors)
    state.vectors = std::max(state.vectors, state.value);
  if (not_below && state.asked == Asked::kX87 && state.value > 0) {
    state.x87 = true;
    state.vectors = std::max(state.vectors, 1u);
  }
  state.mxcsr = mxcsr == Mxcsr::kCompared && zero ? Mxcsr::kGood : Mxcsr::kNo;
  if (state.mxcsr == Mxcsr::kNo) state.mxcsr_in = 0;
  state.permitted = std::max(state.permitted, state.vectors);
  state.Ask(Asked::kNothing);
  return state;
}

VerifierState::FlagRecipe VerifierState::RecipeOf(const Insn& insn, const InsnUse& use) {
  FlagRecipe recipe;
  const Operand &to = insn.operand[0], &from = insn.operand[1];
  if (HasMemory(insn) || to.kind != OperandKind::kReg) return recipe;
  const auto name = [](const Operand& reg) {
    return static_cast<uint8_t>(reg.reg + (reg.high ? 16 : 0));
  };
  switch (insn.mnemonic) {
    case Mnemonic::CMP:
    case Mnemonic::TEST:
      recipe = {insn.mnemonic, use.gpr_read, to.bits, name(to)};
      if (from.kind == OperandKind::kReg)
        recipe.from = name(from);
      else
        recipe.constant = from.imm;
      return recipe;
    case Mnemonic::AND:
    case Mnemonic::OR:
    case Mnemonic::XOR:
      if (to.bits < 32) return recipe;
      return {Mnemonic::TEST, static_cast<uint16_t>(1 << to.reg), to.bits, name(to), name(to)};
    default:
      return recipe;
  }
}

}  // namespace bt
