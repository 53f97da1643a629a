#include "bt/translator/flag_recipe.h"

#include <limits>

#include "bt/translator/host_registers.h"

namespace bt {
namespace {

// Writes the bytes of a recipe; everything is done in kTemp1, as wide as the guest's instruction.
class Writer {
 public:
  Writer(FlagRecipe& recipe, unsigned bits) : recipe_(recipe), wide_(bits == 64 ? 8 : 0) {
    recipe.temp1 = true;
  }

  void Put(std::initializer_list<unsigned> bytes) {
    for (unsigned byte : bytes) recipe_.bytes[recipe_.length++] = static_cast<uint8_t>(byte);
  }
  // `opcode` kTemp1, `reg`
  void With(uint8_t opcode, uint8_t reg) {
    Put({0x41u | wide_ | (reg >> 3 & 1u) << 2, opcode, 0xc0u | (reg & 7u) << 3 | (kTemp1 & 7)});
  }
  // The arithmetic of 81 /`extension` on kTemp1.
  void With(unsigned extension, int32_t imm) {
    const bool small = imm == static_cast<int8_t>(imm);
    Put({0x41u | wide_, small ? 0x83u : 0x81u, 0xc0u | extension << 3 | (kTemp1 & 7)});
    Constant(imm, small);
  }
  // LEA kTemp1, [base + imm]
  void Address(uint8_t base, int32_t imm) {
    const bool small = imm == static_cast<int8_t>(imm);
    Put({0x44u | wide_ | base >> 3, 0x8d,
         (small ? 0x40u : 0x80u) | (kTemp1 & 7) << 3 | (base & 7u)});
    if ((base & 7) == 4) Put({0x24});
    Constant(imm, small);
  }
  // LEA kTemp1, [base + index]
  void Address(uint8_t base, uint8_t index) {
    Put({0x44u | wide_ | base >> 3 | (index >> 3 & 1u) << 1, 0x8d, 0x44u | (kTemp1 & 7) << 3,
         (index & 7u) << 3 | (base & 7u), 0});
  }
  // C1 /`extension` of kTemp1
  void Shift(unsigned extension, uint8_t count) {
    Put({0x41u | wide_, 0xc1, 0xc0u | extension << 3 | (kTemp1 & 7), count});
  }

 private:
  void Constant(int32_t imm, bool small) {
    for (unsigned i = 0; i < (small ? 1 : 4); ++i)
      Put({static_cast<uint32_t>(imm) >> i * 8 & 0xff});
  }

  FlagRecipe& recipe_;
  const unsigned wide_;
};

constexpr uint8_t kAddToReg = 0x01, kSubFromReg = 0x29, kCmpWithReg = 0x39, kMovToReg = 0x89;
constexpr unsigned kAdd = 0, kCmp = 7;

bool IsWideRegister(const Operand& operand) {
  return operand.kind == OperandKind::kReg && operand.bits >= 32;
}

// Of ADD or SUB, from the sum or difference and the other operand, which it does not change.
FlagRecipe OfSum(const BlockStep& step, const PatchPlan& plan) {
  FlagRecipe recipe;
  const Operand &to = step.insn.operand[0], &from = step.insn.operand[1];
  const bool add = step.insn.mnemonic == Mnemonic::ADD;
  if (!IsWideRegister(to)) return recipe;
  const uint8_t result = plan.gpr[to.reg];
  Writer write(recipe, to.bits);
  if (from.kind == OperandKind::kImm) {
    const auto imm = static_cast<int32_t>(from.imm);
    if (imm == std::numeric_limits<int32_t>::min()) return {};
    write.Address(result, add ? -imm : imm);
    write.With(add ? kAdd : kCmp, imm);
  } else if (from.kind == OperandKind::kReg && from.reg != to.reg) {
    const uint8_t other = plan.gpr[from.reg];
    if (add) {
      write.With(kMovToReg, result);
      write.With(kSubFromReg, other);
      write.With(kAddToReg, other);
    } else {
      write.Address(result, other);
      write.With(kCmpWithReg, other);
    }
    recipe.registers = static_cast<uint16_t>(1 << from.reg);
  } else {
    return {};
  }
  recipe.registers |= static_cast<uint16_t>(1 << to.reg);
  return recipe;
}

// The extension of its opcode; 0: it is no shift.
unsigned ShiftOf(Mnemonic mnemonic) {
  switch (mnemonic) {
    case Mnemonic::SHL:
      return 4;
    case Mnemonic::SHR:
      return 5;
    case Mnemonic::SAR:
      return 7;
    default:
      return 0;
  }
}

}  // namespace

bool WantsOperandKept(const BlockStep& step, const PatchPlan& plan) {
  const Operand &to = step.insn.operand[0], &count = step.insn.operand[1];
  return step.how == Treatment::kCopy && ShiftOf(step.insn.mnemonic) != 0 && IsWideRegister(to) &&
         count.kind == OperandKind::kImm && (count.imm & (to.bits - 1)) != 0 &&
         !(step.use.gpr_read & plan.in_memory);
}

FlagRecipe RecipeOf(const BlockStep& step, const PatchPlan& plan, bool kept) {
  FlagRecipe recipe;
  if (step.how != Treatment::kCopy || HasMemory(step.insn)) return recipe;
  if (step.use.gpr_read & plan.in_memory) return recipe;  // its bytes are for one place
  const Operand& to = step.insn.operand[0];
  switch (step.insn.mnemonic) {
    case Mnemonic::CMP:
    case Mnemonic::TEST:
      recipe.length = static_cast<uint8_t>(PatchInsn(step.insn, plan, recipe.bytes.data()));
      recipe.registers = step.use.gpr_read;
      return recipe;
    case Mnemonic::AND:
    case Mnemonic::OR:
    case Mnemonic::XOR: {
      if (!IsWideRegister(to)) return recipe;
      const uint8_t reg = plan.gpr[to.reg], low = reg & 7, high = reg >> 3;
      const auto rex = static_cast<uint8_t>(0x40 | (to.bits == 64 ? 8 : 0) | high * 5);
      recipe.bytes = {rex, 0x85, static_cast<uint8_t>(0xc0 | low * 9)};  // TEST
      recipe.length = 3;
      recipe.registers = static_cast<uint16_t>(1 << to.reg);
      return recipe;
    }
    case Mnemonic::ADD:
    case Mnemonic::SUB:
      return OfSum(step, plan);
    default:
      if (!kept || !WantsOperandKept(step, plan)) return recipe;
      Writer(recipe, to.bits)
          .Shift(ShiftOf(step.insn.mnemonic), static_cast<uint8_t>(step.insn.operand[1].imm));
      recipe.kept = true;
      return recipe;
  }
}

}  // namespace bt
