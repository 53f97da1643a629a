#include "bt/isa/decoder.h"

#include <algorithm>
#include <bit>

#include "bt/isa/decode_cache.h"
#include "bt/isa/zydis_decoder.h"

namespace bt {
namespace {

// Names that differ between our list and Zydis's.
constexpr ZydisMnemonic ZYDIS_MNEMONIC_MOVS_D = ZYDIS_MNEMONIC_INVALID;
constexpr ZydisMnemonic ZYDIS_MNEMONIC_CMPS_D = ZYDIS_MNEMONIC_INVALID;

struct MnemonicMap {
  std::array<Mnemonic, ZYDIS_MNEMONIC_MAX_VALUE + 1> map{};
  constexpr MnemonicMap() {
#define ISA(name, family) map[ZYDIS_MNEMONIC_##name] = Mnemonic::name;
#include "bt/isa/isa_table.inc"
#undef ISA
    map[ZYDIS_MNEMONIC_INVALID] = Mnemonic::INVALID;
  }
};
constexpr MnemonicMap kMnemonics;

void FillRegister(ZydisRegister reg, Operand& out) {
  out.kind = OperandKind::kReg;
  const uint8_t id = static_cast<uint8_t>(std::max<ZyanI8>(0, ZydisRegisterGetId(reg)));
  switch (ZydisRegisterGetClass(reg)) {
    case ZYDIS_REGCLASS_GPR8:
      out.reg_class = RegClass::kGpr;
      if (reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH) {
        out.reg = static_cast<uint8_t>(reg - ZYDIS_REGISTER_AH);
        out.high = true;
      } else if (reg >= ZYDIS_REGISTER_SPL) {
        out.reg = static_cast<uint8_t>(4 + (reg - ZYDIS_REGISTER_SPL));
      } else {
        out.reg = static_cast<uint8_t>(reg - ZYDIS_REGISTER_AL);
      }
      return;
    case ZYDIS_REGCLASS_GPR16:
    case ZYDIS_REGCLASS_GPR32:
    case ZYDIS_REGCLASS_GPR64:
      out.reg_class = RegClass::kGpr;
      break;
    case ZYDIS_REGCLASS_SEGMENT:
      out.reg_class = RegClass::kSegment;
      break;
    case ZYDIS_REGCLASS_CONTROL:
      out.reg_class = RegClass::kControl;
      break;
    case ZYDIS_REGCLASS_DEBUG:
      out.reg_class = RegClass::kDebug;
      break;
    case ZYDIS_REGCLASS_X87:
      out.reg_class = RegClass::kX87;
      break;
    case ZYDIS_REGCLASS_MMX:
      out.reg_class = RegClass::kMmx;
      break;
    case ZYDIS_REGCLASS_XMM:
      out.reg_class = RegClass::kXmm;
      break;
    case ZYDIS_REGCLASS_YMM:
      out.reg_class = RegClass::kYmm;
      break;
    default:
      out.reg_class = RegClass::kOther;
      break;
  }
  out.reg = id;
}

uint8_t AddressRegister(ZydisRegister reg) {
  if (reg == ZYDIS_REGISTER_NONE) return MemoryOperand::kNoReg;
  if (reg == ZYDIS_REGISTER_RIP || reg == ZYDIS_REGISTER_EIP) return MemoryOperand::kRip;
  return static_cast<uint8_t>(ZydisRegisterGetId(reg));
}

void FillMemory(const ZydisDecodedOperandMem& in, MemoryOperand& out) {
  out.segment = static_cast<uint8_t>(std::max<ZyanI8>(0, ZydisRegisterGetId(in.segment)));
  out.base = AddressRegister(in.base);
  out.index = AddressRegister(in.index);
  const ZydisRegisterClass index_class = ZydisRegisterGetClass(in.index);
  out.vector_index = index_class == ZYDIS_REGCLASS_XMM || index_class == ZYDIS_REGCLASS_YMM;
  out.shift = in.scale > 1 ? static_cast<uint8_t>(std::countr_zero(in.scale)) : 0;
  out.disp = in.disp.has_displacement ? in.disp.value : 0;
}

void FillOperand(const ZydisDecodedOperand& in, Insn& insn, Operand& out) {
  out.bits = in.size;
  out.written = in.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
  if (in.encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG) out.field = Field::kModrmReg;
  if (in.encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM) out.field = Field::kModrmRm;
  if (in.encoding == ZYDIS_OPERAND_ENCODING_NDSNDD) out.field = Field::kVexVvvv;
  if (in.encoding == ZYDIS_OPERAND_ENCODING_IS4) out.field = Field::kVexIs4;
  switch (in.type) {
    case ZYDIS_OPERAND_TYPE_REGISTER:
      FillRegister(in.reg.value, out);
      break;
    case ZYDIS_OPERAND_TYPE_MEMORY:
      out.kind = OperandKind::kMem;
      FillMemory(in.mem, insn.mem);
      break;
    case ZYDIS_OPERAND_TYPE_POINTER:
      out.kind = OperandKind::kFar;
      insn.far_selector = in.ptr.segment;
      insn.far_offset = in.ptr.offset;
      break;
    case ZYDIS_OPERAND_TYPE_IMMEDIATE:
      out.kind = OperandKind::kImm;
      out.imm = in.imm.value.u;
      break;
    default:
      break;
  }
}

uint8_t MandatoryPrefix(const ZydisDecodedInstruction& in) {
  if (in.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX) {
    constexpr uint8_t kByPp[] = {0, 0x66, 0xf3, 0xf2};  // [SDM 2A] 2.3.5.6
    return kByPp[in.raw.vex.pp & 3];
  }
  for (unsigned i = 0; i < in.raw.prefix_count; ++i) {
    if (in.raw.prefixes[i].type == ZYDIS_PREFIX_TYPE_MANDATORY) return in.raw.prefixes[i].value;
  }
  return 0;
}

uint8_t OpcodeMap(ZydisOpcodeMap map) {
  switch (map) {
    case ZYDIS_OPCODE_MAP_0F:
      return 1;
    case ZYDIS_OPCODE_MAP_0F38:
      return 2;
    case ZYDIS_OPCODE_MAP_0F3A:
      return 3;
    default:
      return 0;
  }
}

// The feature behind an encoding; what is older than the i486, or cannot be had apart, is kAlways.
Feature FeatureOf(const ZydisDecodedInstruction& in, Mnemonic mnemonic) {
  switch (mnemonic) {
    case Mnemonic::RDTSC:
      return Feature::kTsc;
    case Mnemonic::RDMSR:
    case Mnemonic::WRMSR:
      return Feature::kMsr;
    case Mnemonic::CMPXCHG8B:
      return Feature::kCx8;
    case Mnemonic::SYSENTER:
    case Mnemonic::SYSEXIT:
      return Feature::kSep;
    case Mnemonic::SYSCALL:
    case Mnemonic::SYSRET:
      return Feature::kSyscall;
    case Mnemonic::VPCLMULQDQ:
      return in.raw.vex.L ? Feature::kVpclmulqdq : Feature::kPclmulqdq;
    case Mnemonic::UD0:
    case Mnemonic::UD1:
    case Mnemonic::UD2:
      return Feature::kAlways;
    default:
      break;
  }
  switch (in.meta.isa_set) {
#define SET(zydis, feature)   \
  case ZYDIS_ISA_SET_##zydis: \
    return Feature::feature;
    SET(X87, kFpu)
    SET(FCMOV, kCmov)
    SET(CMOV, kCmov)
    SET(PPRO, kCmov)
    SET(FAT_NOP, kCmov)
    SET(PREFETCH_NOP, kCmov)
    SET(CLFSH, kClflush)
    SET(PENTIUMMMX, kMmx)
    SET(FXSAVE, kFxsr)
    SET(FXSAVE64, kFxsr)
    SET(SSE, kSse)
    SET(SSEMXCSR, kSse)
    SET(SSE_PREFETCH, kSse)
    SET(SSE2, kSse2)
    SET(SSE2MMX, kSse2)
    SET(SSE3, kSse3)
    SET(SSE3X87, kSse3)
    SET(SSSE3, kSsse3)
    SET(SSSE3MMX, kSsse3)
    SET(SSE4, kSse41)
    SET(SSE42, kSse42)
    SET(PCLMULQDQ, kPclmulqdq)
    SET(CMPXCHG16B, kCx16)
    SET(MOVBE, kMovbe)
    SET(POPCNT, kPopcnt)
    SET(LZCNT, kAbm)
    SET(AES, kAes)
    SET(AVXAES, kAes)
    SET(XSAVE, kXsave)
    SET(XSAVEOPT, kXsaveopt)
    SET(XSAVEC, kXsavec)
    SET(XSAVES, kXsaves)
    SET(AVX, kAvx)
    SET(AVX2, kAvx2)
    SET(AVX2GATHER, kAvx2)
    SET(FMA, kFma)
    SET(F16C, kF16c)
    SET(VAES, kVaes)
    SET(AVX_GFNI, kGfni)
    SET(GFNI, kGfni)
    SET(SHA, kSha)
    SET(BMI1, kBmi1)
    SET(BMI2, kBmi2)
    SET(ADOX_ADCX, kAdx)
    SET(RDRAND, kRdrand)
    SET(RDSEED, kRdseed)
    SET(RDPID, kRdpid)
    SET(RDTSCP, kRdtscp)
    SET(RDWRFSGS, kFsgsbase)
    SET(INVPCID, kInvpcid)
    SET(SMAP, kSmap)
    SET(CLFLUSHOPT, kClflushopt)
    SET(CLWB, kClwb)
#undef SET
    default:
      return Feature::kAlways;
  }
}

// The source segment of a string instruction: DS, unless a prefix says otherwise.
uint8_t StringSegment(ZydisInstructionAttributes attributes) {
  constexpr ZydisInstructionAttributes kBySegment[] = {
      ZYDIS_ATTRIB_HAS_SEGMENT_ES, ZYDIS_ATTRIB_HAS_SEGMENT_CS, ZYDIS_ATTRIB_HAS_SEGMENT_SS,
      ZYDIS_ATTRIB_HAS_SEGMENT_DS, ZYDIS_ATTRIB_HAS_SEGMENT_FS, ZYDIS_ATTRIB_HAS_SEGMENT_GS};
  for (uint8_t segment = 0; segment < 6; ++segment) {
    if (attributes & kBySegment[segment]) return segment;
  }
  return 3;
}

// The last of F2 and F3; hardware takes either as a repeat on any string instruction.
uint8_t RepeatPrefix(const ZydisDecodedInstruction& in) {
  uint8_t last = 0;
  for (unsigned i = 0; i < in.raw.prefix_count; ++i) {
    const uint8_t value = in.raw.prefixes[i].value;
    if (value == 0xf2 || value == 0xf3) last = value;
  }
  return last;
}

// Where Zydis 4.0 reads an encoding otherwise than processors do. Both were found by the
// differential test.
void CorrectZydis(const ZydisDecodedInstruction& in, Insn& insn) {
  // SIB base 101 with mod 00 is a displacement alone, whatever REX.B says. [SDM 2A] table 2-5
  const bool has_sib = in.attributes & ZYDIS_ATTRIB_HAS_SIB;
  if (has_sib && in.raw.modrm.mod == 0 && in.raw.sib.base == 5) {
    insn.mem.base = MemoryOperand::kNoReg;
    insn.mem.disp = in.raw.disp.value;
  }
  // F3 90 with REX.B is XCHG R8, rAX; only without it is it PAUSE. [SDM 2B] XCHG
  if (insn.mnemonic == Mnemonic::PAUSE && in.raw.rex.B) {
    insn.mnemonic = Mnemonic::XCHG;
    insn.operand_count = 2;
    for (unsigned i = 0; i < 2; ++i) {
      insn.operand[i] = Operand{};
      insn.operand[i].kind = OperandKind::kReg;
      insn.operand[i].reg_class = RegClass::kGpr;
      insn.operand[i].bits = in.operand_width;
      insn.operand[i].reg = i == 0 ? 8 : 0;
      insn.operand[i].written = true;
    }
  }
}

}  // namespace

DecodeStatus DecodeByZydis(std::span<const uint8_t> bytes, CodeSize code_size, Insn& insn) {
  const ZydisDecoder& decoder = ZydisDecoderFor(code_size);
  ZydisDecoderContext context;
  ZydisDecodedInstruction in;
  const ZyanStatus status =
      ZydisDecoderDecodeInstruction(&decoder, &context, bytes.data(), bytes.size(), &in);
  if (status == ZYDIS_STATUS_NO_MORE_DATA) return DecodeStatus::kNeedMoreBytes;
  if (!ZYAN_SUCCESS(status)) return DecodeStatus::kInvalid;

  insn = Insn{};
  insn.mnemonic = kMnemonics.map[in.mnemonic];
  if (in.mnemonic == ZYDIS_MNEMONIC_MOVSD && in.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT) {
    insn.mnemonic = Mnemonic::MOVS_D;
  } else if (in.mnemonic == ZYDIS_MNEMONIC_CMPSD && in.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT) {
    insn.mnemonic = Mnemonic::CMPS_D;
  }
  insn.length = in.length;
  insn.operand_bits = in.operand_width;
  insn.address_bits = in.address_width;
  insn.code_size = code_size;
  insn.lock = in.attributes & ZYDIS_ATTRIB_HAS_LOCK;
  insn.rep = RepeatPrefix(in) == 0xf3;
  insn.repne = RepeatPrefix(in) == 0xf2;
  if (in.cpu_flags) insn.undefined_flags = in.cpu_flags->undefined;
  insn.string_segment = StringSegment(in.attributes);
  std::copy_n(bytes.begin(), in.length, insn.bytes.begin());
  insn.modrm_offset = in.raw.modrm.offset;
  insn.opcode = in.opcode;
  insn.opcode_map = OpcodeMap(in.opcode_map);
  insn.has_vex = in.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;
  insn.vex_256 = insn.has_vex && in.raw.vex.L;
  insn.mandatory_prefix = MandatoryPrefix(in);
  insn.rex_w = insn.has_vex ? in.raw.vex.W : in.raw.rex.W;
  insn.feature = FeatureOf(in, insn.mnemonic);
  // A VEX encoding without a feature of ours is Knights Corner's or Advanced Matrix Extensions'.
  const bool known_encoding = insn.has_vex ? insn.feature != Feature::kAlways
                                           : in.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY;

  insn.disp_offset = in.raw.disp.offset;
  insn.disp_bytes = in.raw.disp.size / 8;
  insn.imm_offset = in.raw.imm[0].offset;
  insn.imm_bytes = in.raw.imm[0].size / 8;
  insn.imm_signed = in.raw.imm[0].is_signed;

  ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
  const ZyanU8 count = std::min<ZyanU8>(in.operand_count_visible, 4);
  if (in.operand_count > 0 && !ZYAN_SUCCESS(ZydisDecoderDecodeOperands(
                                  &decoder, &context, &in, operands, in.operand_count))) {
    return DecodeStatus::kInvalid;
  }
  insn.operand_count = count;
  for (unsigned i = 0; i < count; ++i) FillOperand(operands[i], insn, insn.operand[i]);
  CorrectZydis(in, insn);
  insn.use = UseOf(insn, in, std::span(operands, in.operand_count));
  return insn.mnemonic == Mnemonic::INVALID || !known_encoding ? DecodeStatus::kInvalid
                                                               : DecodeStatus::kOk;
}

DecodeStatus Decode(std::span<const uint8_t> bytes, CodeSize code_size, Insn& insn) {
  static thread_local DecodeCache cache;
  if (cache.Find(bytes, code_size, insn)) return DecodeStatus::kOk;
  const DecodeStatus status = DecodeByZydis(bytes, code_size, insn);
  if (status == DecodeStatus::kOk) cache.Add(insn);
  return status;
}

const char* MnemonicName(Mnemonic mnemonic) {
  static constexpr const char* kNames[] = {
      "invalid",
#define ISA(name, family) #name,
#include "bt/isa/isa_table.inc"
#undef ISA
  };
  return mnemonic < Mnemonic::kCount ? kNames[static_cast<unsigned>(mnemonic)] : "invalid";
}

}  // namespace bt
