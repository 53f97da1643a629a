#include "bt/translator/patcher.h"

#include <algorithm>
#include <cstring>

#include "bt/isa/insn_use.h"

namespace bt {
namespace {

constexpr unsigned kMaxInsn = 15;  // [SDM 2A] 2.3.11
constexpr uint8_t kRsp = 4, kRbp = 5;

// REX bits, and those of VEX once they are inverted. [SDM 2A] 2.2.1.2
constexpr uint8_t kW = 8, kR = 4, kX = 2, kB = 1;

// A few bytes that are being written. What does not fit is counted, not stored.
class Bytes {
 public:
  void Add(uint8_t byte) {
    if (size_ < sizeof(bytes_)) bytes_[size_] = byte;
    ++size_;
  }
  template <typename T>
  void AddWord(T word) {
    uint8_t raw[sizeof(word)];
    std::memcpy(raw, &word, sizeof(word));
    for (uint8_t byte : raw) Add(byte);
  }
  unsigned CopyTo(uint8_t* out) const {
    if (size_ > kMaxInsn) return 0;
    std::copy_n(bytes_, size_, out);
    return size_;
  }

 private:
  uint8_t bytes_[kMaxInsn];
  unsigned size_ = 0;
};

// An instruction taken apart. `rex` holds W R X B of REX or VEX; `modrm` to `tail` are what follows
// the opcode.
struct Parts {
  uint8_t prefixes[14], prefix_count = 0;
  bool has_rex = false;
  uint8_t rex = 0;
  uint8_t opcode = 0;
  uint8_t vex_map = 0, vvvv = 0, vex_l_pp = 0;
  bool long_vex = false;  // three bytes
  bool has_modrm = false, has_memory = false;
  uint8_t modrm = 0;
  unsigned tail = 0;  // offset of the immediates
};

bool IsLegacyPrefix(uint8_t byte) {
  switch (byte) {
    case 0x26:
    case 0x2e:
    case 0x36:
    case 0x3e:
    case 0x64:
    case 0x65:
    case 0x66:
    case 0x67:
    case 0xf0:
    case 0xf2:
    case 0xf3:
      return true;
    default:
      return false;
  }
}

// What a memory operand that is replaced has no use for: segments and the address size.
bool IsAddressPrefix(uint8_t byte) {
  return byte != 0x66 && byte < 0xf0;
}

// MOV to and from control and debug registers take no memory, whatever ModRM.mod says. [SDM 2B]
bool IgnoresMod(const Insn& insn) {
  return insn.opcode_map == 1 && !insn.has_vex && insn.opcode >= 0x20 && insn.opcode <= 0x23;
}

// Bytes after ModRM that belong to its memory operand.
unsigned AddressBytes(const uint8_t* modrm) {
  const unsigned mod = modrm[0] >> 6, rm = modrm[0] & 7;
  const unsigned sib = rm == kRsp;
  if (mod == 1) return sib + 1;
  const unsigned base = sib ? modrm[1] & 7 : rm;
  return sib + (mod == 2 || base == kRbp ? 4 : 0);
}

Parts TakeApart(const Insn& insn) {
  Parts parts;
  unsigned at = 0;
  // A REX that is not the last prefix does nothing; left in, it might become the last.
  for (;; ++at) {
    const uint8_t byte = insn.bytes[at];
    if (IsLegacyPrefix(byte)) {
      parts.prefixes[parts.prefix_count++] = byte;
      parts.has_rex = false;
      parts.rex = 0;
    } else if ((byte & 0xf0) == 0x40) {
      parts.has_rex = true;
      parts.rex = byte & 0xf;
    } else {
      break;
    }
  }
  if (insn.has_vex) {  // [SDM 2A] 2.3.5
    parts.long_vex = insn.bytes[at] == 0xc4;
    const uint8_t first = static_cast<uint8_t>(~insn.bytes[at + 1]);
    const uint8_t last = insn.bytes[at + (parts.long_vex ? 2 : 1)];
    parts.rex = parts.long_vex ? first >> 5 : (first >> 5) & kR;
    if (parts.long_vex) parts.rex |= (last >> 7) * kW;
    parts.vex_map = parts.long_vex ? insn.bytes[at + 1] & 0x1f : 1;
    parts.vvvv = (~last >> 3) & 0xf;
    parts.vex_l_pp = last & 7;
    at += parts.long_vex ? 3 : 2;
  } else {
    constexpr uint8_t kEscapes[] = {0, 1, 2, 2};  // nothing, 0F, 0F 38, 0F 3A
    at += kEscapes[insn.opcode_map & 3];
  }
  parts.opcode = insn.bytes[at++];
  parts.has_modrm = insn.modrm_offset != 0;
  if (parts.has_modrm) {
    parts.modrm = insn.bytes[at];
    parts.has_memory = parts.modrm < 0xc0 && !IgnoresMod(insn);
    at += 1 + (parts.has_memory ? AddressBytes(&insn.bytes[at]) : 0);
  }
  parts.tail = at;
  return parts;
}

// A memory operand in host registers.
struct Address {
  uint8_t base = MemoryOperand::kNoReg, index = MemoryOperand::kNoReg, shift = 0;
  int32_t disp = 0;
};

// False: it cannot be said in 64-bit code, or not by us.
bool MapAddress(const MemoryOperand& mem, const PatchPlan& plan, Address& out) {
  if (mem.base == MemoryOperand::kRip) return false;
  if (mem.base != MemoryOperand::kNoReg) out.base = plan.gpr[mem.base];
  if (mem.index != MemoryOperand::kNoReg) {
    out.index = mem.vector_index ? mem.index : plan.gpr[mem.index];
    if (out.index == kRsp && !mem.vector_index) return false;
  }
  out.shift = mem.shift;
  out.disp = static_cast<int32_t>(mem.disp);
  return true;
}

// X and B of an address.
uint8_t AddressBits(const Address& address) {
  uint8_t bits = 0;
  if (address.base != MemoryOperand::kNoReg && address.base >= 8) bits |= kB;
  if (address.index != MemoryOperand::kNoReg && address.index >= 8) bits |= kX;
  return bits;
}

// ModRM, SIB and displacement, the shortest. [SDM 2A] tables 2-2 and 2-3
void AddAddress(uint8_t reg, const Address& address, Bytes& out) {
  const bool has_base = address.base != MemoryOperand::kNoReg;
  const bool has_index = address.index != MemoryOperand::kNoReg;
  const uint8_t base = has_base ? address.base & 7 : kRbp;
  const uint8_t index = has_index ? address.index & 7 : kRsp;
  uint8_t mod = 2;
  if (!has_base || (address.disp == 0 && base != kRbp)) {
    mod = 0;
  } else if (address.disp == static_cast<int8_t>(address.disp)) {
    mod = 1;
  }
  // Without a base and a SIB it would be relative to RIP.
  const bool sib = has_index || base == kRsp || !has_base;
  out.Add(static_cast<uint8_t>(mod << 6 | (reg & 7) << 3 | (sib ? kRsp : base)));
  if (sib) out.Add(static_cast<uint8_t>(address.shift << 6 | index << 3 | base));
  if (mod == 1) {
    out.Add(static_cast<uint8_t>(address.disp));
  } else if (mod == 2 || !has_base) {
    out.AddWord(address.disp);
  }
}

bool IsIdentity(const PatchPlan& plan) {
  return plan.gpr == PatchPlan{}.gpr;
}

bool MovesImplicit(const Insn& insn, const PatchPlan& plan) {
  if (IsIdentity(plan)) return false;
  const uint16_t implicit = UseOf(insn).gpr_implicit;
  for (unsigned reg = 0; reg < 16; ++reg) {
    if ((implicit >> reg & 1) && plan.gpr[reg] != reg) return true;
  }
  return false;
}

// PUSH, POP, XCHG with rAX, MOV with an immediate, BSWAP: the register is in the opcode.
bool HasOpcodeRegister(const Insn& insn) {
  if (insn.has_vex) return false;
  if (insn.opcode_map == 1) return insn.opcode >= 0xc8 && insn.opcode <= 0xcf;
  if (insn.opcode_map != 0) return false;
  if (insn.opcode == 0x90) return insn.mnemonic == Mnemonic::XCHG;  // else NOP, PAUSE
  return (insn.opcode >= 0x50 && insn.opcode <= 0x5f) ||
         (insn.opcode > 0x90 && insn.opcode <= 0x97) ||
         (insn.opcode >= 0xb0 && insn.opcode <= 0xbf);
}

void SetBit(uint8_t& bits, uint8_t bit, bool value) {
  bits = static_cast<uint8_t>(value ? bits | bit : bits & ~bit);
}

// What 8-bit registers ask of the prefixes.
struct ByteRegisters {
  bool need_rex = false;    // SPL BPL SIL DIL
  bool forbid_rex = false;  // AH CH DH BH
  bool impossible = false;  // bits 15:8 of a register that has no name for them
};

// Puts host registers into the fields of general registers.
ByteRegisters MapRegisters(const Insn& insn, const PatchPlan& plan, Parts& parts) {
  ByteRegisters bytes;
  const bool opcode_register = HasOpcodeRegister(insn);
  for (unsigned i = 0; i < insn.operand_count; ++i) {
    const Operand& operand = insn.operand[i];
    if (operand.kind != OperandKind::kReg || operand.reg_class != RegClass::kGpr) continue;
    uint8_t host = plan.gpr[operand.reg & 15];
    if (operand.high) {
      bytes.forbid_rex = true;
      bytes.impossible |= host > 3;
      host += 4;
    } else if (operand.bits == 8) {
      bytes.need_rex |= host >= 4 && host < 8;
    }
    switch (operand.field) {
      case Field::kModrmReg:
        parts.modrm = static_cast<uint8_t>((parts.modrm & 0xc7) | (host & 7) << 3);
        SetBit(parts.rex, kR, host >= 8);
        break;
      case Field::kModrmRm:
        parts.modrm = static_cast<uint8_t>((parts.modrm & 0xf8) | (host & 7));
        SetBit(parts.rex, kB, host >= 8);
        break;
      case Field::kVexVvvv:
        parts.vvvv = host;
        break;
      default:
        // The first operand; the second of XCHG is rAX, and BSWAP has but one.
        if (!opcode_register || i != 0) break;
        parts.opcode = static_cast<uint8_t>((parts.opcode & 0xf8) | (host & 7));
        SetBit(parts.rex, kB, host >= 8);
        // XCHG with itself would become NOP.
        bytes.impossible |= parts.opcode == 0x90 && host == 0;
        break;
    }
  }
  return bytes;
}

// The operands that are the general register `reg`.
unsigned TimesNamed(const Insn& insn, unsigned reg) {
  unsigned times = 0;
  for (unsigned i = 0; i < insn.operand_count; ++i) {
    const Operand& operand = insn.operand[i];
    times += operand.kind == OperandKind::kReg && operand.reg_class == RegClass::kGpr &&
             operand.reg == reg;
  }
  return times;
}

// Of two registers ADD to CMP have the one that is written in either field: makes ModRM.rm the one
// that is read. [SDM 2A] 2.1, the direction bit
void ReadByRm(const Insn& insn, Parts& parts) {
  if (insn.operand[1].field != Field::kModrmReg) return;
  const unsigned low = parts.modrm & 7, high = (parts.modrm >> 3) & 7;
  parts.modrm = static_cast<uint8_t>(0xc0 | low << 3 | high);
  const bool r = parts.rex & kR, b = parts.rex & kB;
  SetBit(parts.rex, kR, b);
  SetBit(parts.rex, kB, r);
  if (insn.mnemonic != Mnemonic::TEST) parts.opcode |= 2;
}

void AddOpcode(const Insn& insn, const Parts& parts, Bytes& out) {
  if (insn.has_vex) {
    const bool long_vex = parts.long_vex || (parts.rex & (kX | kB));
    const uint8_t inverted = static_cast<uint8_t>(~parts.rex & 7);
    const uint8_t low = static_cast<uint8_t>((~parts.vvvv & 0xf) << 3 | parts.vex_l_pp);
    if (long_vex) {
      out.Add(0xc4);
      out.Add(static_cast<uint8_t>(inverted << 5 | parts.vex_map));
      out.Add(static_cast<uint8_t>((parts.rex & kW) << 4 | low));
    } else {
      out.Add(0xc5);
      out.Add(static_cast<uint8_t>((inverted & kR) << 5 | low));
    }
  } else {
    if (parts.has_rex) out.Add(static_cast<uint8_t>(0x40 | parts.rex));
    if (insn.opcode_map != 0) out.Add(0x0f);
    if (insn.opcode_map == 2) out.Add(0x38);
    if (insn.opcode_map == 3) out.Add(0x3a);
  }
  out.Add(parts.opcode);
}

}  // namespace

bool MayReadSlot(const Insn& insn, unsigned reg) {
  switch (insn.mnemonic) {
    case Mnemonic::ADD:
    case Mnemonic::OR:
    case Mnemonic::ADC:
    case Mnemonic::SBB:
    case Mnemonic::AND:
    case Mnemonic::SUB:
    case Mnemonic::XOR:
    case Mnemonic::CMP:
    case Mnemonic::TEST:
    case Mnemonic::IMUL:
      break;
    default:
      return false;
  }
  // The source of two operands, or of IMUL with an immediate.
  const Operand& from = insn.operand[1];
  return insn.operand_count >= 2 && insn.modrm_offset != 0 && from.kind == OperandKind::kReg &&
         insn.operand[0].kind == OperandKind::kReg && from.reg == reg && from.bits >= 32 &&
         TimesNamed(insn, reg) == 1;
}

unsigned PatchInsn(const Insn& insn, const PatchPlan& plan, uint8_t* out) {
  if (insn.code_size != CodeSize::k64 || MovesImplicit(insn, plan)) return 0;
  Parts parts = TakeApart(insn);
  const bool was_empty = parts.has_rex && parts.rex == 0;
  const ByteRegisters byte_registers = MapRegisters(insn, plan, parts);
  bool slot = false;
  for (unsigned reg = 0; plan.in_memory >> reg != 0; ++reg) {
    if (!(plan.in_memory >> reg & 1) ||
        !((UseOf(insn).gpr_read | UseOf(insn).gpr_written) >> reg & 1))
      continue;
    if (!MayReadSlot(insn, reg)) return 0;
    slot = true;
  }
  if (slot) ReadByRm(insn, parts);
  const bool is_moffs = insn.opcode_map == 0 && (insn.opcode & 0xfc) == 0xa0;
  const bool replace = plan.replace_memory && parts.has_memory;
  Address address;
  if (replace) {
    if (insn.mem.vector_index) return 0;
    address.base = plan.memory_base;
    address.disp = plan.memory_disp;
  } else if (parts.has_memory && !MapAddress(insn.mem, plan, address)) {
    return 0;
  }
  if (byte_registers.impossible || is_moffs) return 0;
  if (parts.has_memory)
    parts.rex = static_cast<uint8_t>((parts.rex & (kW | kR)) | AddressBits(address));
  if (slot) SetBit(parts.rex, kB, false);

  // A REX that held nothing but bits now gone goes with them.
  parts.has_rex = parts.rex != 0 || byte_registers.need_rex || was_empty;
  if (parts.has_rex && byte_registers.forbid_rex) return 0;

  Bytes bytes;
  for (unsigned i = 0; i < parts.prefix_count; ++i) {
    if (!(replace || slot) || !IsAddressPrefix(parts.prefixes[i])) bytes.Add(parts.prefixes[i]);
  }
  AddOpcode(insn, parts, bytes);
  if (parts.has_memory) {
    AddAddress((parts.modrm >> 3) & 7, address, bytes);
  } else if (slot) {
    bytes.Add(static_cast<uint8_t>((parts.modrm & 0x38) | kRbp));  // [RIP + disp32]
    bytes.AddWord(plan.slot_disp);
  } else if (parts.has_modrm) {
    bytes.Add(parts.modrm);
  }
  for (unsigned at = parts.tail; at < insn.length; ++at) bytes.Add(insn.bytes[at]);
  return bytes.CopyTo(out);
}

unsigned EmitAddress(const Insn& insn, const PatchPlan& plan, uint8_t destination, uint8_t* out) {
  Address address;
  if (insn.code_size != CodeSize::k64 || insn.mem.vector_index ||
      !MapAddress(insn.mem, plan, address))
    return 0;
  const bool wide = insn.address_bits == 64;
  const uint8_t reg_bit = destination >= 8 ? kR : 0, rm_bit = destination >= 8 ? kB : 0;
  const auto add_rex = [](Bytes& bytes, uint8_t bits) {
    if (bits != 0) bytes.Add(0x40 | bits);
  };
  Bytes bytes;
  if (address.base == MemoryOperand::kNoReg && address.index == MemoryOperand::kNoReg) {
    const uint64_t value =
        wide ? static_cast<uint64_t>(insn.mem.disp) : static_cast<uint32_t>(insn.mem.disp);
    const uint8_t mov = static_cast<uint8_t>(0xb8 | (destination & 7));
    if (value >> 32) {  // MOV destination, imm64
      add_rex(bytes, kW | rm_bit);
      bytes.Add(mov);
      bytes.AddWord(value);
    } else {
      add_rex(bytes, rm_bit);
      bytes.Add(mov);
      bytes.AddWord(static_cast<uint32_t>(value));
    }
    return bytes.CopyTo(out);
  }
  const uint8_t w = wide ? kW : 0;
  if (address.index == MemoryOperand::kNoReg && address.disp == 0) {  // MOV destination, base
    add_rex(bytes, w | reg_bit | AddressBits(address));
    bytes.Add(0x8b);
    bytes.Add(static_cast<uint8_t>(0xc0 | (destination & 7) << 3 | (address.base & 7)));
    return bytes.CopyTo(out);
  }
  add_rex(bytes, w | reg_bit | AddressBits(address));
  bytes.Add(0x8d);
  AddAddress(destination, address, bytes);
  return bytes.CopyTo(out);
}

}  // namespace bt
