#include "bt/translator/treatment.h"

#include "bt/interp/families.h"
#include "bt/translator/repeat_stubs.h"

namespace bt {
namespace {

enum class Family : uint8_t {
#define X(family) k##family,
  VMM_BT_FAMILIES(X)
#undef X
};

constexpr Family FamilyOf(Mnemonic mnemonic) {
  switch (mnemonic) {
#define ISA(name, family) \
  case Mnemonic::name:    \
    return Family::k##family;
#include "bt/isa/isa_table.inc"
#undef ISA
    default:
      return Family::kSystem;
  }
}

bool OnlyGeneralRegisters(const Insn& insn) {
  for (unsigned i = 0; i < insn.operand_count; ++i) {
    const Operand& operand = insn.operand[i];
    if (operand.kind == OperandKind::kReg && operand.reg_class != RegClass::kGpr) return false;
    if (operand.kind == OperandKind::kFar) return false;
  }
  return true;
}

// General-register instructions that can neither trap nor look at anything but their operands.
bool Copyable(Mnemonic mnemonic) {
  switch (mnemonic) {
    case Mnemonic::ADD:
    case Mnemonic::OR:
    case Mnemonic::ADC:
    case Mnemonic::SBB:
    case Mnemonic::AND:
    case Mnemonic::SUB:
    case Mnemonic::XOR:
    case Mnemonic::CMP:
    case Mnemonic::TEST:
    case Mnemonic::INC:
    case Mnemonic::DEC:
    case Mnemonic::NEG:
    case Mnemonic::NOT:
    case Mnemonic::MOV:
    case Mnemonic::MOVZX:
    case Mnemonic::MOVSX:
    case Mnemonic::MOVSXD:
    case Mnemonic::MOVBE:
    case Mnemonic::XCHG:
    case Mnemonic::XADD:
    case Mnemonic::CMPXCHG:
    case Mnemonic::CMPXCHG8B:
    case Mnemonic::CMPXCHG16B:
    case Mnemonic::BSWAP:
    case Mnemonic::CBW:
    case Mnemonic::CWDE:
    case Mnemonic::CDQE:
    case Mnemonic::CWD:
    case Mnemonic::CDQ:
    case Mnemonic::CQO:
    case Mnemonic::CMOVB:
    case Mnemonic::CMOVBE:
    case Mnemonic::CMOVL:
    case Mnemonic::CMOVLE:
    case Mnemonic::CMOVNB:
    case Mnemonic::CMOVNBE:
    case Mnemonic::CMOVNL:
    case Mnemonic::CMOVNLE:
    case Mnemonic::CMOVNO:
    case Mnemonic::CMOVNP:
    case Mnemonic::CMOVNS:
    case Mnemonic::CMOVNZ:
    case Mnemonic::CMOVO:
    case Mnemonic::CMOVP:
    case Mnemonic::CMOVS:
    case Mnemonic::CMOVZ:
    case Mnemonic::SETB:
    case Mnemonic::SETBE:
    case Mnemonic::SETL:
    case Mnemonic::SETLE:
    case Mnemonic::SETNB:
    case Mnemonic::SETNBE:
    case Mnemonic::SETNL:
    case Mnemonic::SETNLE:
    case Mnemonic::SETNO:
    case Mnemonic::SETNP:
    case Mnemonic::SETNS:
    case Mnemonic::SETNZ:
    case Mnemonic::SETO:
    case Mnemonic::SETP:
    case Mnemonic::SETS:
    case Mnemonic::SETZ:
    case Mnemonic::SHL:
    case Mnemonic::SHR:
    case Mnemonic::SAR:
    case Mnemonic::ROL:
    case Mnemonic::ROR:
    case Mnemonic::RCL:
    case Mnemonic::RCR:
    case Mnemonic::SHLD:
    case Mnemonic::SHRD:
    case Mnemonic::BT:
    case Mnemonic::BTS:
    case Mnemonic::BTR:
    case Mnemonic::BTC:
    case Mnemonic::BSF:
    case Mnemonic::BSR:
    case Mnemonic::TZCNT:
    case Mnemonic::LZCNT:
    case Mnemonic::POPCNT:
    case Mnemonic::CRC32:
    case Mnemonic::IMUL:
    case Mnemonic::MUL:
    case Mnemonic::MULX:
    case Mnemonic::ANDN:
    case Mnemonic::BEXTR:
    case Mnemonic::BLSI:
    case Mnemonic::BLSR:
    case Mnemonic::BLSMSK:
    case Mnemonic::BZHI:
    case Mnemonic::PDEP:
    case Mnemonic::PEXT:
    case Mnemonic::RORX:
    case Mnemonic::SARX:
    case Mnemonic::SHLX:
    case Mnemonic::SHRX:
    case Mnemonic::ADCX:
    case Mnemonic::ADOX:
    case Mnemonic::LAHF:
    case Mnemonic::SAHF:
    case Mnemonic::CLC:
    case Mnemonic::STC:
    case Mnemonic::CMC:
    case Mnemonic::MOVNTI:
    case Mnemonic::LFENCE:
    case Mnemonic::MFENCE:
    case Mnemonic::SFENCE:
      return true;
    default:
      return false;
  }
}

bool IsJumpIf(const Insn& insn) {
  return (insn.opcode_map == 0 && (insn.opcode & 0xf0) == 0x70) ||
         (insn.opcode_map == 1 && (insn.opcode & 0xf0) == 0x80);
}

// Near forms of FF: /2 CALL, /4 JMP.
bool IsNearIndirect(const Insn& insn, unsigned extension) {
  return insn.opcode_map == 0 && insn.opcode == 0xff &&
         (insn.bytes[insn.modrm_offset] >> 3 & 7) == extension && insn.address_bits == 64;
}

// SHL and its like give AF no defined value. Where the host makes one that does not depend on the
// old one, they overwrite all flags.
bool HostShiftsSetAuxiliary() {
  static const bool result = [] {
    uint64_t with, without;
    asm volatile(
        "mov $0xff00, %%eax\n sahf\n mov $5, %%ecx\n shl $3, %%ecx\n lahf\n mov %%rax, %[with]\n"
        "mov $0x0200, %%eax\n sahf\n mov $5, %%ecx\n shl $3, %%ecx\n lahf\n mov %%rax, %[without]"
        : [with] "=&r"(with), [without] "=&r"(without)
        :
        : "rax", "rcx", "cc");
    return ((with ^ without) & 0x1000) == 0;
  }();
  return result;
}

// The same of MUL and IMUL, which define CF and OF only.
bool HostMultipliesSetAll() {
  static const bool result = [] {
    uint64_t with, without;
    asm volatile(
        "mov $0xd500, %%eax\n sahf\n mov $5, %%ecx\n imul $3, %%ecx\n lahf\n mov %%rax, %[with]\n"
        "mov $0x0200, %%eax\n sahf\n mov $5, %%ecx\n imul $3, %%ecx\n lahf\n"
        "mov %%rax, %[without]"
        : [with] "=&r"(with), [without] "=&r"(without)
        :
        : "rax", "rcx", "cc");
    return ((with ^ without) & 0xd500) == 0;
  }();
  return result;
}

}  // namespace

bool HasMemory(const Insn& insn) {
  for (unsigned i = 0; i < insn.operand_count; ++i) {
    if (insn.operand[i].kind == OperandKind::kMem) return true;
  }
  return false;
}

unsigned MemoryBytes(const Insn& insn) {
  for (unsigned i = 0; i < insn.operand_count; ++i) {
    if (insn.operand[i].kind == OperandKind::kMem) return insn.operand[i].bits / 8;
  }
  return 0;
}

bool IsBitString(const Insn& insn) {
  switch (insn.mnemonic) {
    case Mnemonic::BT:
    case Mnemonic::BTS:
    case Mnemonic::BTR:
    case Mnemonic::BTC:
      return insn.operand[0].kind == OperandKind::kMem && insn.operand[1].kind == OperandKind::kReg;
    default:
      return false;
  }
}

int32_t StackReleased(const Insn& insn) {
  return insn.operand_count == 0 ? 0 : static_cast<int32_t>(insn.operand[0].imm & 0xffff);
}

Treatment TreatmentOf(const Insn& insn, const InsnUse& use) {
  switch (insn.mnemonic) {
    case Mnemonic::MOV:
      if (insn.operand[0].reg_class != RegClass::kGpr) break;
      if (insn.operand[1].reg_class != RegClass::kSegment) break;
      return Treatment::kSelector;
    case Mnemonic::NOP:
    case Mnemonic::PREFETCHNTA:
    case Mnemonic::PREFETCHT0:
    case Mnemonic::PREFETCHT1:
    case Mnemonic::PREFETCHT2:
    case Mnemonic::PREFETCHW:
      return insn.lock ? Treatment::kInterpreter : Treatment::kNothing;
    case Mnemonic::MOVSB:
    case Mnemonic::MOVSW:
    case Mnemonic::MOVS_D:
    case Mnemonic::MOVSQ:
    case Mnemonic::STOSB:
    case Mnemonic::STOSW:
    case Mnemonic::STOSD:
    case Mnemonic::STOSQ:
      return RepeatIndex(insn) ? Treatment::kRepeat : Treatment::kInterpreter;
    case Mnemonic::LEA:
      return Treatment::kAddress;
    case Mnemonic::DIV:
    case Mnemonic::IDIV:
      return insn.operand[0].bits >= 32 ? Treatment::kDivide : Treatment::kInterpreter;
    case Mnemonic::PUSH:
      if (insn.operand_bits != 64 || !OnlyGeneralRegisters(insn)) break;
      return Treatment::kPush;
    case Mnemonic::PUSHFQ:
      return Treatment::kPushFlags;
    case Mnemonic::LDMXCSR:
      return Treatment::kLoadMxcsr;
    case Mnemonic::CLI:
      return Treatment::kClearIf;
    case Mnemonic::STI:
      return Treatment::kSetIf;
    case Mnemonic::POP:
      if (insn.operand_bits != 64 || HasMemory(insn) || !OnlyGeneralRegisters(insn)) break;
      return Treatment::kPop;
    case Mnemonic::SWAPGS:
      return Treatment::kSwapGs;
    case Mnemonic::STAC:
      return Treatment::kSetAc;
    case Mnemonic::CLAC:
      return Treatment::kClearAc;
    case Mnemonic::SYSCALL:
      return Treatment::kSystemCall;
    case Mnemonic::SYSRET:
      return insn.rex_w ? Treatment::kSystemReturn : Treatment::kInterpreter;
    case Mnemonic::LEAVE:
      return insn.operand_bits == 64 ? Treatment::kLeave : Treatment::kInterpreter;
    case Mnemonic::JMP:
      if (insn.operand[0].kind == OperandKind::kImm) return Treatment::kJump;
      return IsNearIndirect(insn, 4) ? Treatment::kJumpIndirect : Treatment::kInterpreter;
    case Mnemonic::CALL:
      if (insn.operand[0].kind == OperandKind::kImm) return Treatment::kCall;
      return IsNearIndirect(insn, 2) ? Treatment::kCallIndirect : Treatment::kInterpreter;
    case Mnemonic::RET:
      return insn.opcode == 0xc2 || insn.opcode == 0xc3 ? Treatment::kReturn
                                                        : Treatment::kInterpreter;
    default:
      break;
  }
  if (IsJumpIf(insn)) return Treatment::kJumpIf;
  if (VectorUseOf(insn, use) != VectorUse::kNone || X87UseOf(insn) != X87Use::kNone) {
    return HasMemory(insn) ? Treatment::kMemory : Treatment::kCopy;
  }
  if (IsBitString(insn))
    return insn.address_bits == 64 ? Treatment::kBitString : Treatment::kInterpreter;
  if (!Copyable(insn.mnemonic) || !OnlyGeneralRegisters(insn) || use.implicit_memory ||
      use.vector || use.x87) {
    return Treatment::kInterpreter;
  }
  if (!HasMemory(insn)) return Treatment::kCopy;
  if (!use.memory_read && !use.memory_written) return Treatment::kInterpreter;
  return Treatment::kMemory;
}

VectorUse VectorUseOf(const Insn& insn, const InsnUse& use) {
  if (insn.mnemonic == Mnemonic::STMXCSR) return VectorUse::kSse;
  const Family family = FamilyOf(insn.mnemonic);
  if ((family != Family::kSse && family != Family::kVex) || use.x87 || use.implicit_memory ||
      (use.memory_read && use.memory_written)) {
    return VectorUse::kNone;
  }
  if (HasMemory(insn) && !use.memory_read && !use.memory_written) return VectorUse::kNone;
  switch (insn.mnemonic) {
    case Mnemonic::EMMS:
    case Mnemonic::LDMXCSR:
    case Mnemonic::VLDMXCSR:
    case Mnemonic::MASKMOVQ:
    case Mnemonic::MASKMOVDQU:
    case Mnemonic::VMASKMOVDQU:
    case Mnemonic::VMASKMOVPS:
    case Mnemonic::VMASKMOVPD:
    case Mnemonic::VPMASKMOVD:
    case Mnemonic::VPMASKMOVQ:
      return VectorUse::kNone;
    default:
      return family == Family::kVex ? VectorUse::kAvx : VectorUse::kSse;
  }
}

X87Use X87UseOf(const Insn& insn) {
  if (FamilyOf(insn.mnemonic) != Family::kX87) return X87Use::kNone;
  switch (insn.mnemonic) {
    case Mnemonic::FLDCW:
    case Mnemonic::FLDENV:
    case Mnemonic::FNSTENV:
    case Mnemonic::FNSAVE:
    case Mnemonic::FRSTOR:
    case Mnemonic::FNINIT:
    case Mnemonic::FNCLEX:
    case Mnemonic::FWAIT:
    case Mnemonic::FDISI8087_NOP:
    case Mnemonic::FENI8087_NOP:
    case Mnemonic::FSETPM287_NOP:
      return X87Use::kNone;
    case Mnemonic::FNSTCW:
    case Mnemonic::FNSTSW:
      return X87Use::kControl;
    default:
      return X87Use::kOperation;
  }
}

unsigned AlignmentOf(const Insn& insn) {
  const unsigned bytes = MemoryBytes(insn);
  switch (insn.mnemonic) {
    case Mnemonic::CMPXCHG16B:
      return bytes;
    case Mnemonic::MOVUPS:
    case Mnemonic::MOVUPD:
    case Mnemonic::MOVDQU:
    case Mnemonic::LDDQU:
    case Mnemonic::PCMPESTRI:
    case Mnemonic::PCMPESTRM:
    case Mnemonic::PCMPISTRI:
    case Mnemonic::PCMPISTRM:
      return 1;
    case Mnemonic::VMOVAPS:
    case Mnemonic::VMOVAPD:
    case Mnemonic::VMOVDQA:
    case Mnemonic::VMOVNTPS:
    case Mnemonic::VMOVNTPD:
    case Mnemonic::VMOVNTDQ:
    case Mnemonic::VMOVNTDQA:
      return bytes;
    default:
      return FamilyOf(insn.mnemonic) == Family::kSse && bytes == 16 ? 16 : 1;
  }
}

bool NeedsOnlyCarry(const Insn& insn) {
  switch (insn.mnemonic) {
    case Mnemonic::INC:
    case Mnemonic::DEC:
    case Mnemonic::ADC:
    case Mnemonic::SBB:
      return true;
    default:
      return false;
  }
}

bool OverwritesFlags(const Insn& insn, const InsnUse& use) {
  if (use.flags_read || use.flags_kept_sometimes || use.flags_written != kArithmeticFlags) {
    return false;
  }
  switch (insn.mnemonic) {
    case Mnemonic::ADD:
    case Mnemonic::SUB:
    case Mnemonic::CMP:
    case Mnemonic::NEG:
    case Mnemonic::AND:
    case Mnemonic::OR:
    case Mnemonic::XOR:
    case Mnemonic::TEST:
    case Mnemonic::XADD:
    case Mnemonic::POPCNT:
    case Mnemonic::COMISS:
    case Mnemonic::COMISD:
    case Mnemonic::UCOMISS:
    case Mnemonic::UCOMISD:
    case Mnemonic::VCOMISS:
    case Mnemonic::VCOMISD:
    case Mnemonic::VUCOMISS:
    case Mnemonic::VUCOMISD:
    case Mnemonic::PTEST:
    case Mnemonic::VPTEST:
      return true;
    case Mnemonic::MUL:
    case Mnemonic::IMUL:
      return HostMultipliesSetAll();
    case Mnemonic::SHL:
    case Mnemonic::SHR:
    case Mnemonic::SAR:
      return HostShiftsSetAuxiliary();
    default:
      return false;
  }
}

}  // namespace bt
