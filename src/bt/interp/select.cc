// From Insn to Op: operands, then the family's choice of a handler.
#include "bt/interp/families.h"

namespace bt {
namespace {

enum class Family : uint8_t {
  kNone,
#define X(family) k##family,
  VMM_BT_FAMILIES(X)
#undef X
};

constexpr Family kFamilyOf[] = {
    Family::kNone,
#define ISA(name, family) Family::k##family,
#include "bt/isa/isa_table.inc"
#undef ISA
};

uint8_t RegisterOffset(const Operand& operand) {
  return static_cast<uint8_t>(operand.reg * 8 + (operand.high ? 1 : 0));
}

void FillMemory(const Insn& insn, Op& op) {
  const MemoryOperand& mem = insn.mem;
  const auto slot = [](uint8_t reg) {
    if (reg == MemoryOperand::kNoReg) return kZero;
    return reg == MemoryOperand::kRip ? kRip : reg;
  };
  op.base = slot(mem.base);
  op.index = slot(mem.index);
  op.shift = mem.shift;
  op.disp = static_cast<int32_t>(mem.disp);
  op.seg = mem.segment;
  const auto seg = static_cast<vmm::Seg>(mem.segment);
  if (seg == vmm::Seg::SS) op.mode |= Op::kStack;
  if (insn.address_bits == 16) op.mode |= Op::kAddr16;
  if (insn.address_bits == 32) op.mode |= Op::kAddr32;
  const bool wide_disp = op.disp != mem.disp;
  if (wide_disp && insn.address_bits == 64) {
    op.mode |= Op::kDisp64;
    op.imm = static_cast<uint64_t>(mem.disp);
  }
  if (insn.code_size == CodeSize::k64) {
    if (seg < vmm::Seg::FS) op.seg = kFlatSegment;
    if (insn.address_bits == 64 && !wide_disp) op.mode |= Op::kPlain64;
  }
}

}  // namespace

void FillOperands(const Insn& insn, Op& op) {
  op.length = insn.length;
  if (insn.lock) op.mode |= Op::kLock;
  if (insn.rep) op.mode |= Op::kRep;
  if (insn.repne) op.mode |= Op::kRepne;
  uint8_t* const fields[] = {&op.dst, &op.src, &op.src2};
  for (unsigned i = 0; i < insn.operand_count; ++i) {
    const Operand& operand = insn.operand[i];
    if (IsReg(operand) && i < 3) *fields[i] = RegisterOffset(operand);
    if (IsImm(operand)) op.imm = operand.imm;
    if (IsMem(operand)) FillMemory(insn, op);
  }
}

void FillImplicitAddress(const Insn& insn, uint8_t base, Op& op) {
  op.base = base;
  op.index = kZero;
  op.disp = 0;
  op.shift = 0;
  op.mode &= Op::kLock | Op::kRep | Op::kRepne;
  op.seg = insn.string_segment;
  if (insn.string_segment == static_cast<uint8_t>(vmm::Seg::SS)) op.mode |= Op::kStack;
  if (insn.address_bits == 16) op.mode |= Op::kAddr16;
  if (insn.address_bits == 32) op.mode |= Op::kAddr32;
  if (insn.code_size != CodeSize::k64) return;
  if (insn.string_segment < 4) op.seg = kFlatSegment;
  if (insn.address_bits == 64) op.mode |= Op::kPlain64;
}

bool SelectHandler(const Insn& insn, Op& op) {
  switch (kFamilyOf[static_cast<unsigned>(insn.mnemonic)]) {
#define X(family)         \
  case Family::k##family: \
    return Select##family(insn, op);
    VMM_BT_FAMILIES(X)
#undef X
    case Family::kNone:
      break;
  }
  return false;
}

bool EndsBlock(const Insn& insn) {
  switch (kFamilyOf[static_cast<unsigned>(insn.mnemonic)]) {
    case Family::kJcc:
    case Family::kBranch:
    case Family::kFar:
      return true;
    case Family::kString:
      return insn.rep || insn.repne;
    case Family::kNop:
      return insn.mnemonic == Mnemonic::PAUSE;
    case Family::kStack:
      return insn.mnemonic == Mnemonic::POPF || insn.mnemonic == Mnemonic::POPFD ||
             insn.mnemonic == Mnemonic::POPFQ ||
             (insn.mnemonic == Mnemonic::POP && !IsGpr(insn.operand[0]));
    case Family::kMov:  // control, debug and segment registers
      return (IsReg(insn.operand[0]) && !IsGpr(insn.operand[0]));
    case Family::kIo:
      return true;  // a device may have stopped, reset or interrupted this CPU
    case Family::kSegment:
      return insn.mnemonic != Mnemonic::SWAPGS;
    case Family::kSystem:
      return true;
    default:
      return false;
  }
}

}  // namespace bt
