#include "generator.h"

#include <algorithm>
#include <cstring>

#include "bt/isa/decoder.h"

namespace difftest {
namespace {

using bt::Mnemonic;

enum class Family {
  kNone,
  Alu,
  Unary,
  Mov,
  Cmov,
  Setcc,
  Jcc,
  Branch,
  Shift,
  Bit,
  MulDiv,
  Atomic,
  Bcd,
  Stack,
  String,
  Flag,
  Nop,
  Io,
  Far,
  Segment,
  System,
  X87,
  XState,
  Sse
};
constexpr Family kFamilyOf[] = {
    Family::kNone,
#define ISA(name, family) Family::family,
#include "bt/isa/isa_table.inc"
#undef ISA
};

bool HasMemory(const bt::Insn& insn) {
  return std::any_of(
      insn.operand.begin(), insn.operand.begin() + insn.operand_count,
      [](const bt::Operand& operand) { return operand.kind == bt::OperandKind::kMem; });
}

// What can't be run natively with the process surviving, or whose result is not the instruction's
// alone.
bool Excluded(const bt::Insn& insn) {
  switch (kFamilyOf[static_cast<unsigned>(insn.mnemonic)]) {
    case Family::kNone:
    case Family::Jcc:
    case Family::Branch:
    case Family::Far:
    case Family::Segment:
    case Family::System:
    case Family::Io:
      return true;
    default:
      break;
  }
  switch (insn.mnemonic) {
    case Mnemonic::POPF:
    case Mnemonic::POPFD:
    case Mnemonic::POPFQ:  // TF, and flags that a user can't set
    case Mnemonic::PUSHF:
    case Mnemonic::PUSHFD:
    case Mnemonic::PUSHFQ:  // shows the host's IF and reserved bits
    case Mnemonic::FXSAVE:
    case Mnemonic::FXSAVE64:
    case Mnemonic::FXRSTOR:
    case Mnemonic::FXRSTOR64:
    case Mnemonic::XSAVE:
    case Mnemonic::XSAVE64:
    case Mnemonic::XRSTOR:
    case Mnemonic::XRSTOR64:
    case Mnemonic::FNSTENV:
    case Mnemonic::FNSAVE:
    case Mnemonic::FLDENV:
    case Mnemonic::FRSTOR:
    case Mnemonic::INSB:
    case Mnemonic::INSW:
    case Mnemonic::INSD:
    case Mnemonic::OUTSB:
    case Mnemonic::OUTSW:
    case Mnemonic::OUTSD:
      return true;
    default:
      break;
  }
  for (unsigned i = 0; i < insn.operand_count; ++i) {
    const bt::Operand& operand = insn.operand[i];
    if (operand.reg_class == bt::RegClass::kSegment ||
        operand.reg_class == bt::RegClass::kControl || operand.reg_class == bt::RegClass::kDebug) {
      return true;
    }
  }
  // A stack pointer chosen for a memory operand would push anywhere.
  if (kFamilyOf[static_cast<unsigned>(insn.mnemonic)] == Family::Stack && HasMemory(insn) &&
      (insn.mem.base == 4 || insn.mem.base == 5)) {
    return true;
  }
  // PREFETCHW's group with a register: #UD on AMD, nothing on Intel; we do nothing.
  if (insn.opcode_map == 1 && insn.opcode == 0x0d && insn.bytes[insn.modrm_offset] >= 0xc0)
    return true;
  return insn.string_segment != 3;
}

}  // namespace

uint64_t Generator::FormOf(const bt::Insn& insn) {
  uint64_t form = static_cast<uint64_t>(insn.mnemonic) << 16 | insn.opcode;
  form = form << 8 | insn.operand_bits;
  return form << 4 | (HasMemory(insn) ? 1 : 0) | (insn.lock ? 2 : 0) | (insn.rep ? 4 : 0) |
         (insn.repne ? 8 : 0);
}

uint64_t Generator::Value() {
  static constexpr uint64_t kCorners[] = {0,
                                          1,
                                          2,
                                          0x7f,
                                          0x80,
                                          0xff,
                                          0x7fff,
                                          0x8000,
                                          0xffff,
                                          0x7fffffff,
                                          0x80000000,
                                          0xffffffff,
                                          0x7fffffffffffffff,
                                          0x8000000000000000,
                                          ~0ull};
  switch (Below(4)) {
    case 0:
      return kCorners[Below(std::size(kCorners))];
    case 1:
      return Below(256);
    case 2:
      return random_() >> Below(64);
    default:
      return random_();
  }
}

uint64_t Generator::DataAddress(unsigned size) {
  switch (Below(16)) {
    case 0:
      return kData + 0x2000 - Below(size + 1);  // over the border of two pages
    case 1:
      return kData + 0x3000 - Below(size + 1);  // over the end
    case 2:
      return kData + 0x1000 - Below(size + 1);  // before the start
    case 3:
      return kData + 0x4000 + Below(0x1000 - size);  // read-only
    case 4:
      return kData + 0x5000 - Below(size + 1);
    default: {
      const uint64_t at = kData + 0x1000 + Below(0x2000 - 64);
      return OneIn(2) ? at & ~15ull : at;
    }
  }
}

void Generator::FillFpu(Registers& registers) {
  for (uint8_t& byte : registers.fx) byte = static_cast<uint8_t>(random_());
  const auto put = [&](unsigned offset, auto value) {
    std::memcpy(registers.fx.data() + offset, &value, sizeof(value));
  };
  put(0, static_cast<uint16_t>(0x7f | Below(4) << 8 | Below(4) << 10));  // FCW, all masked
  put(2, static_cast<uint16_t>(Below(8) << 11));                         // FSW: TOP
  put(4, static_cast<uint16_t>(random_() & 0xff));                       // FTW
  put(6, uint16_t{0});
  put(8, uint64_t{0});
  put(16, uint64_t{0});
  const uint32_t masks = OneIn(3) ? static_cast<uint32_t>(Below(64)) << 7 : 0x1f80;
  put(24, static_cast<uint32_t>(masks | Below(4) << 13 | (OneIn(8) ? 0x8040 : 0)));
  for (unsigned st = 0; st < 8; ++st) {  // mostly plausible numbers, or nothing is computed
    if (!OneIn(8))
      put(32 + 16 * st + 8, static_cast<uint16_t>((0x3fff - 40 + Below(80)) | Below(2) << 15));
    if (!OneIn(8)) registers.fx[32 + 16 * st + 7] |= 0x80;
    std::memset(registers.fx.data() + 32 + 16 * st + 10, 0, 6);
  }
  for (unsigned xmm = 0; xmm < 16; ++xmm) {
    const unsigned at = 160 + 16 * xmm;
    switch (Below(4)) {
      case 0:
        for (unsigned i = 0; i < 4; ++i)
          put(at + 4 * i, static_cast<float>(static_cast<int32_t>(random_())) /
                              static_cast<float>(1 + Below(1000)));
        break;
      case 1:
        for (unsigned i = 0; i < 2; ++i)
          put(at + 8 * i, static_cast<double>(static_cast<int64_t>(random_())) /
                              static_cast<double>(1 + Below(100000)));
        break;
      case 2:
        put(at, Value());
        put(at + 8, Value());
        break;
      default:
        break;
    }
  }
  std::memset(registers.fx.data() + 416, 0, 96);
}

void Generator::FillRegisters(Registers& registers) {
  for (uint64_t& reg : registers.gpr) reg = Value();
  registers.gpr[4] = (kData + 0x1000 + 0x200 + Below(0x1c00)) & ~7ull;
  if (OneIn(32)) registers.gpr[4] = DataAddress(8);
  constexpr uint64_t kArithmetic = 0x8d5;
  registers.rflags = (random_() & (kArithmetic | 0x400)) | 2;
  if (!OneIn(8)) registers.rflags &= ~0x400ull;
  FillFpu(registers);
}

bool Generator::TryEncode(Case& out) {
  std::vector<uint8_t>& code = out.code;
  code.clear();
  static constexpr uint8_t kPrefixes[] = {0x66, 0x66, 0xf2, 0xf3, 0xf0, 0x67};
  while (OneIn(3) && code.size() < 3) code.push_back(kPrefixes[Below(std::size(kPrefixes))]);
  if (OneIn(2)) code.push_back(static_cast<uint8_t>(0x40 | Below(16)));
  switch (Below(8)) {
    case 0:
    case 1:
    case 2:
      break;
    case 3:
    case 4:
    case 5:
      code.push_back(0x0f);
      break;
    case 6:
      code.insert(code.end(), {0x0f, 0x38});
      break;
    default:
      code.insert(code.end(), {0x0f, 0x3a});
      break;
  }
  while (code.size() < 15) code.push_back(static_cast<uint8_t>(random_()));
  if (bt::Decode(code, bt::CodeSize::k64, out.insn) != bt::DecodeStatus::kOk || Excluded(out.insn))
    return false;
  code.resize(out.insn.length);
  return true;
}

// Chooses base and index so that the effective address is where DataAddress() says; a displacement
// of a RIP-relative or absolute operand is written into the code.
void Generator::PlaceMemoryOperand(Case& out) {
  Registers& registers = out.registers;
  const bt::Insn& insn = out.insn;
  const bt::MemoryOperand& mem = insn.mem;
  unsigned size = 8;
  for (unsigned i = 0; i < insn.operand_count; ++i) {
    if (insn.operand[i].kind == bt::OperandKind::kMem)
      size = std::max(1u, std::min(512u, insn.operand[i].bits / 8u));
  }
  uint64_t target = DataAddress(size);
  // A bit string's index register moves the place: keep it short.
  const bool bit_string = insn.opcode_map == 1 && (insn.opcode & 0xc7) == 0x83 &&
                          insn.operand[1].kind == bt::OperandKind::kReg;
  if (bit_string) {
    const unsigned reg = insn.operand[1].reg;
    registers.gpr[reg] = (Below(2048) - 1024) & (insn.operand_bits == 16   ? 0xffff
                                                 : insn.operand_bits == 32 ? 0xffffffff
                                                                           : ~0ull);
    target = kData + 0x1800 + Below(0x800);
  }
  if (mem.base == bt::MemoryOperand::kRip ||
      (mem.base == bt::MemoryOperand::kNoReg && mem.index == bt::MemoryOperand::kNoReg)) {
    const uint64_t origin = mem.base == bt::MemoryOperand::kRip ? kCode + insn.length : 0;
    const auto disp = static_cast<uint32_t>(target - origin);
    // The displacement follows ModRM (and SIB).
    const unsigned at = insn.modrm_offset + ((insn.bytes[insn.modrm_offset] & 7) == 4 ? 2u : 1u);
    if (insn.modrm_offset == 0) {  // moffs
      const uint64_t wide = target;
      const unsigned bytes = insn.address_bits / 8;
      std::memcpy(out.code.data() + insn.length - bytes, &wide, bytes);
    } else {
      std::memcpy(out.code.data() + at, &disp, 4);
    }
    bt::Decode(out.code, bt::CodeSize::k64, out.insn);
    return;
  }
  const uint64_t offset = target - static_cast<uint64_t>(mem.disp);
  if (mem.base == bt::MemoryOperand::kNoReg) {
    registers.gpr[mem.index] = offset >> mem.shift;
  } else if (mem.index == bt::MemoryOperand::kNoReg) {
    registers.gpr[mem.base] = offset;
  } else if (mem.base == mem.index) {
    registers.gpr[mem.base] = offset / (1 + (1u << mem.shift));
  } else {
    if (!bit_string || mem.index != insn.operand[1].reg)
      registers.gpr[mem.index] = OneIn(2) ? Below(64) : 0 - Below(64);
    registers.gpr[mem.base] = offset - (registers.gpr[mem.index] << mem.shift);
  }
  if (OneIn(256) && insn.address_bits == 64)
    registers.gpr[mem.base & 15] ^= 1ull << 62;  // not canonical
}

Case Generator::Next() {
  Case out;
  while (!TryEncode(out)) {
  }
  FillRegisters(out.registers);
  const Family family = kFamilyOf[static_cast<unsigned>(out.insn.mnemonic)];
  uint64_t* gpr = out.registers.gpr.data();
  if (family == Family::String) {
    gpr[6] = DataAddress(8);
    gpr[7] = DataAddress(8);
    gpr[1] = Below(40);
  } else if (HasMemory(out.insn)) {
    PlaceMemoryOperand(out);
  }
  if (out.insn.mnemonic == Mnemonic::MASKMOVDQU || out.insn.mnemonic == Mnemonic::MASKMOVQ ||
      out.insn.mnemonic == Mnemonic::XLAT || out.insn.mnemonic == Mnemonic::ENTER ||
      out.insn.mnemonic == Mnemonic::LEAVE) {
    gpr[3] = kData + 0x1000 + Below(0x1e00);
    gpr[5] = kData + 0x1400 + Below(0x800);
    gpr[7] = kData + 0x1000 + Below(0x1e00);
  }
  return out;
}

}  // namespace difftest
