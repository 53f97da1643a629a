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
  const bool below = (jump == Mnemonic::JB && taken) || (jump == Mnemonic::JNB && !taken);
  if (state.asked == Asked::kRange && below && state.temp0 == Temp0::kOffset)
    state.temp0 = Temp0::kInRange;
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

VerifierState::FlagRecipe VerifierState::RecipeOf(const Insn& insn, const InsnUse& use) const {
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
    case Mnemonic::ADD:
    case Mnemonic::SUB:
      if (to.bits < 32 || (from.kind == OperandKind::kReg && from.reg == to.reg)) return recipe;
      recipe = {insn.mnemonic, static_cast<uint16_t>(1 << to.reg), to.bits, name(to)};
      if (from.kind == OperandKind::kReg) {
        recipe.registers |= static_cast<uint16_t>(1 << from.reg);
        recipe.from = name(from);
      } else {
        recipe.constant = static_cast<uint64_t>(int64_t{static_cast<int32_t>(from.imm)});
      }
      return recipe;
    case Mnemonic::SHL:
    case Mnemonic::SHR:
    case Mnemonic::SAR:
      if (to.bits < 32 || from.kind != OperandKind::kImm || kept != to.reg) return recipe;
      recipe = {insn.mnemonic, 0, to.bits, FlagRecipe::kKept};
      recipe.constant = from.imm;
      return recipe;
    default:
      return recipe;
  }
}

VerifierState::FlagRecipe VerifierState::RecipeOnTemp1(const Insn& insn) const {
  const Operand& from = insn.operand[1];
  const bool constant = from.kind == OperandKind::kImm;
  const auto imm = static_cast<int32_t>(from.imm), had = static_cast<int32_t>(operand.constant);
  FlagRecipe recipe = operand;
  if (temp1 != Temp1::kOperand) return {};
  switch (insn.mnemonic) {
    case Mnemonic::ADD:
    case Mnemonic::CMP: {
      const bool add = insn.mnemonic == Mnemonic::ADD;
      recipe.mnemonic = add ? Mnemonic::ADD : Mnemonic::SUB;
      if (insn.operand[0].bits != operand.bits ||
          constant != (operand.from == FlagRecipe::kConstant))
        return {};
      if (!constant)
        return from.reg == operand.from && recipe.mnemonic == operand.mnemonic ? recipe
                                                                               : FlagRecipe{};
      recipe.constant = static_cast<uint64_t>(int64_t{imm});
      return imm == (add ? -had : had) && operand.to != FlagRecipe::kKept ? recipe : FlagRecipe{};
    }
    case Mnemonic::SHL:
    case Mnemonic::SHR:
    case Mnemonic::SAR:
      if (operand.to != FlagRecipe::kKept || !constant) return {};
      return {insn.mnemonic,         0,       insn.operand[0].bits, FlagRecipe::kKept,
              FlagRecipe::kConstant, from.imm};
    default:
      return {};
  }
}

}  // namespace bt
