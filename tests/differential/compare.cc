#include "compare.h"

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstring>

#include "bt/interp/host_fpu.h"
#include "bt/isa/decoder.h"

namespace difftest {
namespace {

using bt::Mnemonic;

struct Difference {
  const char* engine;
  std::string text;
  // `which`, if there are several of the name, is part of it.
  void Add(const char* what, uint64_t native, uint64_t guest, int which = -1) {
    if (native == guest) return;
    char name[24], line[128];
    std::snprintf(name, sizeof(name), which < 0 ? "%s" : "%s %d", what, which);
    std::snprintf(line, sizeof(line), "  %-9s native %016" PRIx64 "  %s %016" PRIx64 "\n", name,
                  native, engine, guest);
    text += line;
  }
};

uint64_t Word(const uint8_t* at, unsigned size) {
  uint64_t value = 0;
  std::memcpy(&value, at, size);
  return value;
}

void CompareFpu(const Registers& native, const Registers& guest, Difference& difference) {
  const auto compare = [&](const char* what, unsigned offset, unsigned size, int which = -1) {
    difference.Add(what, Word(native.fx.data() + offset, size),
                   Word(guest.fx.data() + offset, size), which);
  };
  compare("fcw", 0, 2);
  compare("fsw", 2, 2);
  compare("ftw", 4, 1);
  compare("mxcsr", 24, 4);
  for (int i = 0; i < 8; ++i) {
    const unsigned at = 32 + 16 * static_cast<unsigned>(i);
    compare("st low", at, 8, i);
    compare("st high", at + 8, 2, i);
  }
  for (int i = 0; i < 16; ++i) {
    const unsigned at = 16 * static_cast<unsigned>(i);
    const auto high = [&](const char* what, unsigned offset) {
      difference.Add(what, Word(native.ymm_high.data() + offset, 8),
                     Word(guest.ymm_high.data() + offset, 8), i);
    };
    compare("xmm 0:63", 160 + at, 8, i);
    compare("xmm 64:127", 160 + at + 8, 8, i);
    high("ymm 128:191", at);
    high("ymm 192:255", at + 8);
  }
}

// Stores or loads an image in parts, of which any may meet the fault.
bool MovesState(Mnemonic m) {
  switch (m) {
    case Mnemonic::FXRSTOR:
    case Mnemonic::FXRSTOR64:
    case Mnemonic::XRSTOR:
    case Mnemonic::XRSTOR64:
    case Mnemonic::FLDENV:
    case Mnemonic::FRSTOR:
    case Mnemonic::FXSAVE:
    case Mnemonic::FXSAVE64:
    case Mnemonic::XSAVE:
    case Mnemonic::XSAVE64:
    case Mnemonic::XSAVEC:
    case Mnemonic::XSAVEC64:
    case Mnemonic::XSAVEOPT:
    case Mnemonic::XSAVEOPT64:
    case Mnemonic::FNSTENV:
    case Mnemonic::FNSAVE:
      return true;
    default:
      return false;
  }
}

bool IsFxState(Mnemonic m) {
  return m == Mnemonic::FXRSTOR || m == Mnemonic::FXRSTOR64 || m == Mnemonic::FXSAVE ||
         m == Mnemonic::FXSAVE64;
}

bool MovesParts(Mnemonic m) {
  return MovesState(m) && !IsFxState(m) && m != Mnemonic::FLDENV && m != Mnemonic::FRSTOR &&
         m != Mnemonic::FNSTENV && m != Mnemonic::FNSAVE;
}

// Of 16 bytes, as the registers were before.
bool IsMisaligned(const Case& test) {
  const bt::MemoryOperand& at = test.insn.mem;
  uint64_t address = static_cast<uint64_t>(at.disp);
  if (at.base != bt::MemoryOperand::kNoReg) address += test.registers.gpr.at(at.base);
  if (at.index != bt::MemoryOperand::kNoReg) address += test.registers.gpr.at(at.index) << at.shift;
  return address % 16 != 0;
}

// Needs only the low half of its 16-byte operand; whether the rest is touched is the processor's
// affair, and seen only where MXCSR.MM lets the operand cross into another page. [SDM 2B] UNPCKLPS
bool NeedsLowHalf(Mnemonic m) {
  switch (m) {
    case Mnemonic::UNPCKLPS:
    case Mnemonic::UNPCKLPD:
    case Mnemonic::PUNPCKLBW:
    case Mnemonic::PUNPCKLWD:
    case Mnemonic::PUNPCKLDQ:
    case Mnemonic::PUNPCKLQDQ:
    case Mnemonic::PSLLW:
    case Mnemonic::PSLLD:
    case Mnemonic::PSLLQ:
    case Mnemonic::PSRLW:
    case Mnemonic::PSRLD:
    case Mnemonic::PSRLQ:
    case Mnemonic::PSRAW:
    case Mnemonic::PSRAD:
      return true;
    default:
      return false;
  }
}

// Of a gather's mask only the sign bits count; what a fault leaves of the others differs.
void SettleMask(const Case& test, Registers& registers) {
  const unsigned size = test.insn.rex_w ? 8 : 4, reg = test.insn.operand[2].reg;
  for (unsigned at = 0; at < 32; at += size) {
    uint8_t* half = at < 16 ? registers.fx.data() + 160 + 16 * reg + at
                            : registers.ymm_high.data() + 16 * reg + at - 16;
    std::memset(half, half[size - 1] & 0x80 ? 0xff : 0, size);
  }
}

void CompareMemory(const Case& test, const Result& native, Result& guest, Difference& difference) {
  if (std::ranges::equal(native.memory, guest.memory)) return;
  for (size_t at = 0; at < native.memory.size(); ++at) {
    if (native.memory[at] == guest.memory[at]) continue;
    const uint64_t address = kWritable + at;
    const bool ignored = std::ranges::any_of(test.ignored, [address](const Case::Range& range) {
      return address - range.address < range.size;
    });
    if (ignored) continue;
    difference.Add("memory", native.memory[at], guest.memory[at]);
    difference.Add("  at", address, ~address);
    break;
  }
  std::ranges::copy(native.memory, guest.memory.begin());
}

}  // namespace

std::string Compare(const Case& test, const char* engine, Result& native, Result& guest) {
  Difference difference{engine, {}};
  Outcome a = native.outcome, b = guest.outcome;
  // A branch to where nothing can be executed: its own processor has not fetched there yet.
  const bool fetch_fault = a.faulted && a.vector == 14 && (a.error & 16) && a.cr2 == a.rip;
  if (fetch_fault && !b.faulted && test.transfers) a = {false, 0, 0, 0, a.rip};
  if (a.faulted && a.vector == 14 && MovesState(test.insn.mnemonic)) {
    // Which part of an area meets the fault first is the processor's affair, and whether XSAVE and
    // XRSTOR touch parts that they need not.
    std::ranges::copy(native.memory, guest.memory.begin());
    const bool good = b.faulted || MovesParts(test.insn.mnemonic);
    return good ? "" : "  no fault where there must be one\n";
  }
  if (!a.faulted && b.vector == 14 && NeedsLowHalf(test.insn.mnemonic) &&
      (Word(native.registers.fx.data() + 24, 4) & bt::kMxcsrMm)) {
    return "";
  }
  // A CALL to an address that is not canonical with a stack that can't be written: the manual
  // checks the address first, AMD the stack. [SDM 2A] CALL
  if (test.insn.mnemonic == Mnemonic::CALL && !test.illegal && a.vector == 14 && b.vector == 13)
    return "";
  // An operand of the stack's that is neither canonical nor aligned: which of the two comes first
  // is the processor's affair; AMD's FXSAVE and FXRSTOR look at the address. [SDM 3A] 6.9
  if (a.vector == 12 && b.vector == 13 && IsFxState(test.insn.mnemonic) && IsMisaligned(test))
    b.vector = a.vector;
  // Above the user's half the host's kernel has pages where the guest has none.
  if (a.vector == 14 && (a.cr2 >> 47)) a.error = (a.error & ~1u) | (b.error & 1);
  const bool is64 = test.insn.code_size == bt::CodeSize::k64;
  difference.Add("faulted", a.faulted, b.faulted);
  difference.Add("vector", a.vector, b.vector);
  difference.Add("error", a.error, b.error);
  difference.Add("cr2", a.cr2, b.cr2);
  difference.Add("rip", a.rip, b.rip);
  const uint64_t gpr_mask = is64 ? ~0ull : 0xffffffff;
  for (int i = 0; i < (is64 ? 16 : 8); ++i) {
    const auto reg = static_cast<unsigned>(i);
    difference.Add("gpr", native.registers.gpr[reg] & gpr_mask, guest.registers.gpr[reg] & gpr_mask,
                   i);
  }
  constexpr uint64_t kFlags = 0x8d5 | 0x400 | 0x4000 | 0x200000;  // arithmetic, DF, NT, ID
  const uint64_t mask =
      kFlags & ~(test.illegal ? 0 : static_cast<uint64_t>(test.insn.undefined_flags));
  difference.Add("flags", native.registers.rflags & mask, guest.registers.rflags & mask);
  if (a.faulted && !test.illegal && test.insn.mem.vector_index) {
    SettleMask(test, native.registers);
    SettleMask(test, guest.registers);
  }
  CompareFpu(native.registers, guest.registers, difference);
  CompareMemory(test, native, guest, difference);
  return difference.text;
}

std::string Describe(const Case& test) {
  std::string text = test.illegal ? "must be #UD" : bt::MnemonicName(test.insn.mnemonic);
  text += test.insn.code_size == bt::CodeSize::k64 ? " (64-bit):" : " (32-bit):";
  char word[32];
  for (uint8_t byte : test.code) {
    std::snprintf(word, sizeof(word), " %02x", byte);
    text += word;
  }
  text += "\n  from";
  for (uint64_t reg : test.registers.gpr) {
    std::snprintf(word, sizeof(word), " %" PRIx64, reg);
    text += word;
  }
  return text + "\n";
}

}  // namespace difftest
