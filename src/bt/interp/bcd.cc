// AAA AAS AAD AAM DAA DAS SALC: outside 64-bit mode only. [SDM 2A]
#include <bit>

#include "bt/interp/families.h"

namespace bt {
namespace {

constexpr uint8_t kAl = 0, kAh = 1;

void SetSzp(Cpu& cpu, uint8_t value) {
  Flags flags = cpu.flags_ & ~(kSign | kZeroFlag | kParity | kOverflow);
  if (value & 0x80) flags |= kSign;
  if (value == 0) flags |= kZeroFlag;
  if (std::popcount(value) % 2 == 0) flags |= kParity;
  cpu.flags_ = flags;
}

void SetCarries(Cpu& cpu, bool carry, bool auxiliary) {
  cpu.flags_ = static_cast<Flags>((cpu.flags_ & ~(kCarry | kAuxiliary)) | (carry ? kCarry : 0) |
                                  (auxiliary ? kAuxiliary : 0));
}

template <bool kAdd>
bool AsciiAdjust(Cpu& cpu, const Op&) {
  const uint8_t al = cpu.Reg<uint8_t>(kAl);
  const bool adjust = (al & 15) > 9 || (cpu.flags_ & kAuxiliary);
  if (adjust) {
    const uint16_t ax = cpu.Reg<uint16_t>(kAl);
    cpu.SetReg<uint16_t>(kAl, static_cast<uint16_t>(kAdd ? ax + 0x106 : ax - 0x106));
  }
  SetCarries(cpu, adjust, adjust);
  cpu.SetReg<uint8_t>(kAl, cpu.Reg<uint8_t>(kAl) & 15);
  return true;
}

template <bool kAdd>
bool DecimalAdjust(Cpu& cpu, const Op&) {
  const uint8_t old_al = cpu.Reg<uint8_t>(kAl);
  const bool old_carry = cpu.flags_ & kCarry;
  uint8_t al = old_al;
  bool carry = false, auxiliary = false;
  if ((al & 15) > 9 || (cpu.flags_ & kAuxiliary)) {
    carry = old_carry || (kAdd ? al > 0xf9 : al < 6);
    al = static_cast<uint8_t>(kAdd ? al + 6 : al - 6);
    auxiliary = true;
  }
  if (old_al > 0x99 || old_carry) {
    al = static_cast<uint8_t>(kAdd ? al + 0x60 : al - 0x60);
    carry = true;
  } else if constexpr (kAdd) {
    carry = false;
  }
  cpu.SetReg<uint8_t>(kAl, al);
  SetCarries(cpu, carry, auxiliary);
  SetSzp(cpu, al);
  return true;
}

bool Aam(Cpu& cpu, const Op& op) {
  const auto base = static_cast<uint8_t>(op.imm);
  if (base == 0) return cpu.Raise(kDE);
  const uint8_t al = cpu.Reg<uint8_t>(kAl);
  cpu.SetReg<uint8_t>(kAh, al / base);
  cpu.SetReg<uint8_t>(kAl, al % base);
  SetSzp(cpu, cpu.Reg<uint8_t>(kAl));
  return true;
}

bool Aad(Cpu& cpu, const Op& op) {
  const auto al = static_cast<uint8_t>(cpu.Reg<uint8_t>(kAl) +
                                       cpu.Reg<uint8_t>(kAh) * static_cast<uint8_t>(op.imm));
  cpu.SetReg<uint16_t>(kAl, al);
  SetSzp(cpu, al);
  return true;
}

bool Salc(Cpu& cpu, const Op&) {
  cpu.SetReg<uint8_t>(kAl, cpu.flags_ & kCarry ? 0xff : 0);
  return true;
}

}  // namespace

bool SelectBcd(const Insn& insn, Op& op) {
  switch (insn.mnemonic) {
    case Mnemonic::AAA:
      return Use(op, &AsciiAdjust<true>);
    case Mnemonic::AAS:
      return Use(op, &AsciiAdjust<false>);
    case Mnemonic::DAA:
      return Use(op, &DecimalAdjust<true>);
    case Mnemonic::DAS:
      return Use(op, &DecimalAdjust<false>);
    case Mnemonic::AAM:
      return Use(op, &Aam);
    case Mnemonic::AAD:
      return Use(op, &Aad);
    case Mnemonic::SALC:
      return Use(op, &Salc);
    default:
      return false;
  }
}

}  // namespace bt
