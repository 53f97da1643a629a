#include "bt/isa/insn_use.h"

#include <span>

#include "bt/isa/insn.h"
#include "bt/isa/zydis_decoder.h"

namespace bt {
namespace {

enum class Family : uint8_t {
  kNone,
  kAlu,
  kUnary,
  kMov,
  kCmov,
  kSetcc,
  kJcc,
  kBranch,
  kShift,
  kBit,
  kBmi,
  kMulDiv,
  kAtomic,
  kBcd,
  kStack,
  kString,
  kFlag,
  kNop,
  kIo,
  kFar,
  kSegment,
  kSystem,
  kX87,
  kXState,
  kSse,
  kVex
};
constexpr Family kFamilyOf[] = {
    Family::kNone,
#define ISA(name, family) Family::k##family,
#include "bt/isa/isa_table.inc"
#undef ISA
};

constexpr unsigned kRsi = 6, kRdi = 7;

constexpr uint16_t Bit(unsigned reg) {
  return static_cast<uint16_t>(1u << reg);
}

// Number of a general register; AH is RAX. Negative: another class.
int GprNumber(ZydisRegister reg) {
  switch (ZydisRegisterGetClass(reg)) {
    case ZYDIS_REGCLASS_GPR8:
      if (reg >= ZYDIS_REGISTER_SPL) return 4 + (reg - ZYDIS_REGISTER_SPL);
      return (reg - ZYDIS_REGISTER_AL) & 3;
    case ZYDIS_REGCLASS_GPR16:
    case ZYDIS_REGCLASS_GPR32:
    case ZYDIS_REGCLASS_GPR64:
      return ZydisRegisterGetId(reg);
    default:
      return -1;
  }
}

// The patcher can put another register in its place.
bool IsNamed(const ZydisDecodedOperand& operand) {
  switch (operand.encoding) {
    case ZYDIS_OPERAND_ENCODING_MODRM_REG:
    case ZYDIS_OPERAND_ENCODING_MODRM_RM:
    case ZYDIS_OPERAND_ENCODING_OPCODE:
    case ZYDIS_OPERAND_ENCODING_NDSNDD:
      return true;
    default:
      return false;
  }
}

void AddRegister(const ZydisDecodedOperand& operand, InsnUse& use) {
  const ZydisRegister reg = operand.reg.value;
  const int number = GprNumber(reg);
  if (number >= 0) {
    const uint16_t bit = Bit(static_cast<unsigned>(number));
    const ZydisRegisterClass reg_class = ZydisRegisterGetClass(reg);
    const bool part = reg_class == ZYDIS_REGCLASS_GPR8 || reg_class == ZYDIS_REGCLASS_GPR16;
    const bool conditional = operand.actions & ZYDIS_OPERAND_ACTION_CONDWRITE;
    if (operand.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) use.gpr_written |= bit;
    if ((operand.actions & ZYDIS_OPERAND_ACTION_MASK_READ) || part || conditional)
      use.gpr_read |= bit;
    if (!IsNamed(operand)) use.gpr_implicit |= bit;
    return;
  }
  switch (ZydisRegisterGetClass(reg)) {
    case ZYDIS_REGCLASS_XMM:
    case ZYDIS_REGCLASS_YMM:
      use.vector = true;
      break;
    case ZYDIS_REGCLASS_X87:
    case ZYDIS_REGCLASS_MMX:
      use.x87 = true;
      break;
    default:
      if (reg == ZYDIS_REGISTER_MXCSR) use.vector = true;
      break;
  }
}

// Takes an address and does not access memory.
bool IsHint(Mnemonic mnemonic) {
  switch (mnemonic) {
    case Mnemonic::NOP:
    case Mnemonic::PREFETCH:
    case Mnemonic::PREFETCHNTA:
    case Mnemonic::PREFETCHT0:
    case Mnemonic::PREFETCHT1:
    case Mnemonic::PREFETCHT2:
    case Mnemonic::PREFETCHW:
    case Mnemonic::PREFETCHWT1:
    case Mnemonic::CLDEMOTE:
      return true;
    default:
      return false;
  }
}

// The bit's number in a register reaches 2^63 bits around the memory operand. [SDM 2A] BT
bool IsBitString(const Insn& insn) {
  switch (insn.mnemonic) {
    case Mnemonic::BT:
    case Mnemonic::BTC:
    case Mnemonic::BTR:
    case Mnemonic::BTS:
      return insn.operand[1].kind == OperandKind::kReg;
    default:
      return false;
  }
}

void AddMemory(const Insn& insn, const ZydisDecodedOperand& operand, InsnUse& use) {
  // insn.mem is the one that is shown, its base and index corrected.
  const bool shown = operand.visibility != ZYDIS_OPERAND_VISIBILITY_HIDDEN;
  if (shown) {
    if (insn.mem.base < 16) use.gpr_read |= Bit(insn.mem.base);
    if (insn.mem.index < 16 && !insn.mem.vector_index) use.gpr_read |= Bit(insn.mem.index);
    if (operand.mem.type == ZYDIS_MEMOP_TYPE_AGEN || IsHint(insn.mnemonic)) return;
    if (IsBitString(insn) || insn.mem.vector_index) use.implicit_memory = true;
    if (operand.actions & ZYDIS_OPERAND_ACTION_MASK_READ) use.memory_read = true;
    if (operand.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) use.memory_written = true;
    return;
  }
  use.implicit_memory = true;
  for (const ZydisRegister reg : {operand.mem.base, operand.mem.index}) {
    const int number = GprNumber(reg);
    if (number < 0) continue;
    use.gpr_read |= Bit(static_cast<unsigned>(number));
    use.gpr_implicit |= Bit(static_cast<unsigned>(number));
  }
}

// A count of 0 changes no flag. [SDM 2B] SAL/SAR/SHL/SHR, RCL/RCR/ROL/ROR, SHLD, SHRD
bool ShiftMayBeByZero(const Insn& insn) {
  const Operand& count = insn.operand[insn.operand_count - 1];
  if (count.kind != OperandKind::kImm) return true;
  return (count.imm & (insn.operand_bits == 64 ? 63 : 31)) == 0;
}

void AddFlags(const Insn& insn, const ZydisDecodedInstruction& in, Family family, InsnUse& use) {
  if (in.cpu_flags) {
    use.flags_read = in.cpu_flags->tested;
    use.flags_written = (in.cpu_flags->modified | in.cpu_flags->set_0 | in.cpu_flags->set_1 |
                         in.cpu_flags->undefined) &
                        kArithmeticFlags;
  }
  if (family == Family::kShift) use.flags_kept_sometimes = ShiftMayBeByZero(insn);
  if (family == Family::kString) use.flags_kept_sometimes = insn.rep || insn.repne;
  // Zydis 4.0 forgets the flags that they clear. [SDM 2B] PTEST, [SDM 2C] VTESTPD
  if (insn.mnemonic == Mnemonic::VPTEST || insn.mnemonic == Mnemonic::VTESTPS ||
      insn.mnemonic == Mnemonic::VTESTPD)
    use.flags_written = kArithmeticFlags;
  // They store the flags, in memory or in R11.
  if (family == Family::kFar) use.flags_read |= kArithmeticFlags;
}

// From memory these show no XMM register, but they need MXCSR.
bool RoundsToMmx(Mnemonic mnemonic) {
  return mnemonic == Mnemonic::CVTPS2PI || mnemonic == Mnemonic::CVTTPS2PI ||
         mnemonic == Mnemonic::CVTPD2PI || mnemonic == Mnemonic::CVTTPD2PI;
}

// What the operands do not tell. Most of it was found by the differential test.
void Correct(const Insn& insn, Family family, InsnUse& use) {
  // The destination stays as it was where the source is 0. [SDM 2A] BSF, BSR
  if (insn.mnemonic == Mnemonic::BSF || insn.mnemonic == Mnemonic::BSR)
    use.gpr_read |= use.gpr_written;
  // Zydis 4.0 forgets that CMPS and SCAS advance.
  if (family == Family::kString) use.gpr_written |= use.gpr_implicit & (Bit(kRsi) | Bit(kRdi));
  // Where a repeat count is 0 nothing happens.
  if (family == Family::kString && (insn.rep || insn.repne)) use.gpr_read |= use.gpr_written;
  // F3 90 with REX.B, which Zydis takes for PAUSE: see CorrectZydis() in decoder.cc.
  if (insn.mnemonic == Mnemonic::XCHG && insn.opcode_map == 0 && insn.opcode == 0x90) {
    use.gpr_read = use.gpr_written = Bit(0) | Bit(8);
    use.gpr_implicit = Bit(0);
  }
  if (family == Family::kX87 || insn.mnemonic == Mnemonic::EMMS) use.x87 = true;
  if (family == Family::kVex) use.vector = true;
  if (family == Family::kSse && (!use.x87 || RoundsToMmx(insn.mnemonic))) use.vector = true;
  if (family == Family::kXState) {
    use.vector = true;
    use.x87 = insn.mnemonic != Mnemonic::LDMXCSR && insn.mnemonic != Mnemonic::STMXCSR;
  }
}

}  // namespace

InsnUse UseOf(const Insn& insn, const ZydisDecodedInstruction& in,
              std::span<const ZydisDecodedOperand> operands) {
  InsnUse use;
  for (const ZydisDecodedOperand& operand : operands) {
    if (operand.type == ZYDIS_OPERAND_TYPE_REGISTER) AddRegister(operand, use);
    if (operand.type == ZYDIS_OPERAND_TYPE_MEMORY) AddMemory(insn, operand, use);
  }
  const Family family = kFamilyOf[static_cast<unsigned>(insn.mnemonic)];
  AddFlags(insn, in, family, use);
  Correct(insn, family, use);
  return use;
}

void RenewUse(Insn& insn) {
  const Family family = kFamilyOf[static_cast<unsigned>(insn.mnemonic)];
  if (family == Family::kShift) insn.use.flags_kept_sometimes = ShiftMayBeByZero(insn);
}

}  // namespace bt
