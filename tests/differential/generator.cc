#include "generator.h"

#include <algorithm>
#include <cstring>

#include "bt/interp/host_fpu.h"
#include "bt/isa/decoder.h"
#include "family.h"
#include "vmm/core/base/check.h"

namespace difftest {
namespace {

using bt::Insn;
using bt::MemoryOperand;
using bt::Mnemonic;
using bt::OperandKind;

bool IsXsave(Mnemonic m) {
  switch (m) {
    case Mnemonic::XSAVE:
    case Mnemonic::XSAVE64:
    case Mnemonic::XSAVEC:
    case Mnemonic::XSAVEC64:
    case Mnemonic::XSAVEOPT:
    case Mnemonic::XSAVEOPT64:
      return true;
    default:
      return false;
  }
}

}  // namespace

// ---- State

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
      const uint64_t at = kData + 0x1000 + Below(0x2000 - size);
      return OneIn(2) ? at & ~31ull : at;
    }
  }
}

void Generator::FillRandom(std::span<uint8_t> bytes) {
  for (size_t at = 0; at < bytes.size(); at += sizeof(uint64_t)) {
    const uint64_t value = random_();
    std::memcpy(bytes.data() + at, &value, std::min(sizeof(value), bytes.size() - at));
  }
}

void Generator::FillFpu(Registers& registers) {
  FillRandom(registers.fx);
  const auto put = [&](unsigned offset, auto value) {
    std::memcpy(registers.fx.data() + offset, &value, sizeof(value));
  };
  const unsigned x87_masks = OneIn(16) ? Below(64) : 0x3f;
  put(0, static_cast<uint16_t>(0x40 | x87_masks | Below(4) << 8 | Below(4) << 10));  // FCW
  unsigned fsw = static_cast<unsigned>(Below(8)) << 11;
  if (OneIn(16)) fsw |= Below(128);
  if (fsw & ~x87_masks & 0x3f) fsw |= 0x8080;  // an unmasked exception waits: ES and B
  put(2, static_cast<uint16_t>(fsw));
  put(4, static_cast<uint16_t>(random_() & 0xff));  // FTW
  put(6, uint16_t{0});
  put(8, uint64_t{0});
  put(16, uint64_t{0});
  const uint32_t masks = OneIn(3) ? static_cast<uint32_t>(Below(64)) << 7 : 0x1f80;
  put(24, static_cast<uint32_t>(masks | Below(4) << 13 | (OneIn(8) ? 0x8040 : 0) |
                                (OneIn(4) ? bt::TheHostFpu().mxcsr_mask & bt::kMxcsrMm : 0)));
  for (unsigned st = 0; st < 8; ++st) {  // mostly plausible numbers, or nothing is computed
    if (!OneIn(8))
      put(32 + 16 * st + 8, static_cast<uint16_t>((0x3fff - 40 + Below(80)) | Below(2) << 15));
    if (!OneIn(8)) registers.fx[32 + 16 * st + 7] |= 0x80;
    std::memset(registers.fx.data() + 32 + 16 * st + 10, 0, 6);
  }
  FillVectors(registers);
  std::memset(registers.fx.data() + 416, 0, 96);
}

void Generator::FillVectors(Registers& registers) {
  FillRandom(registers.ymm_high);
  for (unsigned half = 0; half < 32; ++half) {
    uint8_t* at = half < 16 ? registers.fx.data() + 160 + 16 * half
                            : registers.ymm_high.data() + 16 * (half - 16);
    const auto put = [at](unsigned offset, auto value) {
      std::memcpy(at + offset, &value, sizeof(value));
    };
    switch (Below(4)) {
      case 0:
        for (unsigned i = 0; i < 4; ++i)
          put(4 * i, static_cast<float>(static_cast<int32_t>(random_())) /
                         static_cast<float>(1 + Below(1000)));
        break;
      case 1:
        for (unsigned i = 0; i < 2; ++i)
          put(8 * i, static_cast<double>(static_cast<int64_t>(random_())) /
                         static_cast<double>(1 + Below(100000)));
        break;
      case 2:
        put(0, Value());
        put(8, Value());
        break;
      default:
        break;
    }
  }
}

void Generator::FillRegisters(Registers& registers) {
  for (uint64_t& reg : registers.gpr) reg = Value();
  registers.gpr[4] = (kData + 0x1000 + 0x200 + Below(0x1c00)) & ~7ull;
  if (OneIn(32)) registers.gpr[4] = DataAddress(8);
  if (!Is64()) {
    for (unsigned i = 0; i < 16; ++i) registers.gpr[i] = i < 8 ? registers.gpr[i] & 0xffffffff : 0;
  }
  constexpr uint64_t kArithmetic = 0x8d5;
  registers.rflags = (random_() & (kArithmetic | 0x400)) | 2;
  if (!OneIn(8)) registers.rflags &= ~0x400ull;
  FillFpu(registers);
}

void Generator::Poke(Case& out, uint64_t address, const void* bytes, size_t size) {
  if (address < kWritable || address + size > kWritableEnd) return;
  const auto* from = static_cast<const uint8_t*>(bytes);
  out.pokes.push_back({address, {from, from + size}});
}

// ---- Memory operands

void Generator::PatchDisplacement(Case& out, uint64_t target) {
  const Insn& insn = out.insn;
  const uint64_t origin = insn.mem.base == MemoryOperand::kRip ? kInsn + insn.length : 0;
  const unsigned bytes = insn.address_bits == 16 ? 2 : 4;
  const auto disp = static_cast<uint32_t>(target - origin);
  if (insn.modrm_offset == 0) {  // moffs
    const unsigned wide = insn.address_bits / 8;
    std::memcpy(out.code.data() + insn.length - wide, &target, wide);
  } else {
    // The displacement follows ModRM (and SIB).
    const bool sib = insn.address_bits != 16 && (insn.bytes[insn.modrm_offset] & 7) == 4;
    std::memcpy(out.code.data() + insn.modrm_offset + (sib ? 2 : 1), &disp, bytes);
  }
  CHECK(bt::Decode(out.code, code_size_, out.insn) == bt::DecodeStatus::kOk);
}

// Elements that lie around `target`, now and then far away.
void Generator::PlaceVectorIndex(Case& out, uint64_t target) {
  const MemoryOperand& mem = out.insn.mem;
  Registers& registers = out.registers;
  const bool wide = out.insn.opcode & 1;
  const uint64_t middle = OneIn(4) ? target : kData + 0x2000;
  if (mem.base != MemoryOperand::kNoReg)
    registers.gpr[mem.base] = middle - static_cast<uint64_t>(mem.disp);
  const uint64_t origin =
      mem.base != MemoryOperand::kNoReg ? 0 : middle - static_cast<uint64_t>(mem.disp);
  for (unsigned i = 0; i < (wide ? 4u : 8u); ++i) {
    const unsigned size = wide ? 8 : 4;
    int64_t index = static_cast<int64_t>(Below(0xc00)) - 0x600;
    if (OneIn(8)) index *= 4;
    index += static_cast<int64_t>(origin);
    index >>= mem.shift;
    if (OneIn(64)) index = static_cast<int64_t>(Value());
    uint8_t* half = i * size < 16 ? registers.fx.data() + 160 + 16 * mem.index + i * size
                                  : registers.ymm_high.data() + 16 * mem.index + i * size - 16;
    std::memcpy(half, &index, size);
  }
}

// Chooses base and index so that the effective address is where it meets the pages; a displacement
// of a RIP-relative or absolute operand is written into the code. Returns the address.
uint64_t Generator::PlaceMemoryOperand(Case& out) {
  Registers& registers = out.registers;
  const Insn& insn = out.insn;
  const MemoryOperand& mem = insn.mem;
  unsigned size = 8;
  for (unsigned i = 0; i < insn.operand_count; ++i) {
    if (insn.operand[i].kind == OperandKind::kMem)
      size = std::max(1u, std::min(512u, insn.operand[i].bits / 8u));
  }
  uint64_t target = DataAddress(size);
  if (FamilyOf(insn) == Family::XState && size >= 64 && !OneIn(8)) target &= ~63ull;
  // What an ARPL that changes nothing does to a page that can't be written differs.
  if (insn.mnemonic == Mnemonic::ARPL) target = kWritable + Below(0x1ffe);
  // AMD does not ask the SHA instructions for alignment, the manual does. [SDM 2B] SHA1MSG1
  if (insn.feature == bt::Feature::kSha) target &= ~15ull;
  if (mem.vector_index) {
    PlaceVectorIndex(out, target);
    return target;
  }
  // A bit string's index register moves the place: keep it short.
  const bool bit_string = !insn.has_vex && insn.opcode_map == 1 && (insn.opcode & 0xc7) == 0x83 &&
                          insn.operand[1].kind == OperandKind::kReg;
  if (bit_string) {
    const unsigned reg = insn.operand[1].reg;
    registers.gpr[reg] = (Below(2048) - 1024) & (insn.operand_bits == 16   ? 0xffff
                                                 : insn.operand_bits == 32 ? 0xffffffff
                                                                           : ~0ull);
    target = kData + 0x1800 + Below(0x800);
  }
  if (mem.base == MemoryOperand::kRip ||
      (mem.base == MemoryOperand::kNoReg && mem.index == MemoryOperand::kNoReg)) {
    PatchDisplacement(out, target);
    return target;
  }
  const uint64_t offset = target - static_cast<uint64_t>(mem.disp);
  if (mem.base == MemoryOperand::kNoReg) {
    registers.gpr[mem.index] = offset >> mem.shift;
  } else if (mem.index == MemoryOperand::kNoReg) {
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
  if (!Is64()) {
    for (uint64_t& reg : registers.gpr) reg &= 0xffffffff;
  }
  uint64_t ea = static_cast<uint64_t>(mem.disp) +
                (registers.gpr[mem.base & 15] & (mem.base < 16 ? ~0ull : 0));
  if (mem.index < 16) ea += registers.gpr[mem.index] << mem.shift;
  return insn.address_bits == 64 ? ea : ea & ((1ull << insn.address_bits) - 1);
}

// ---- What an instruction needs besides its operands

// Somewhere in the code page, where an INT3 waits, but not inside the instruction itself; seldom on
// a page that can't be executed.
uint64_t Generator::BranchTarget(const Case& out) {
  if (OneIn(16)) return OneIn(2) ? kWritable + Below(0x2000) : kData + Below(0x1000);
  for (;;) {
    const uint64_t target = kCode + Below(0x1000);
    if (target < kInsn || target >= kInsn + out.insn.length) return target;
  }
}

void Generator::PrepareBranch(Case& out, uint64_t memory) {
  const Insn& insn = out.insn;
  out.transfers = true;
  const uint64_t target = BranchTarget(out);
  const uint64_t address_mask = insn.address_bits == 64 ? ~0ull : (1ull << insn.address_bits) - 1;
  const bool counts = insn.opcode_map == 0 && insn.opcode >= 0xe0 && insn.opcode <= 0xe3;
  if (counts && !OneIn(4)) {  // a counter that is about to end
    uint64_t& rcx = out.registers.gpr[1];
    rcx = (rcx & ~address_mask) | Below(3);
  }
  if (insn.mnemonic == Mnemonic::RET) return Poke(out, out.registers.gpr[4], &target, 8);
  const bt::Operand& operand = insn.operand[0];
  if (operand.kind == OperandKind::kMem) return Poke(out, memory, &target, Is64() ? 8 : 4);
  if (operand.kind == OperandKind::kReg) {
    out.registers.gpr[operand.reg] = target;
    return;
  }
  // Relative: a displacement of one byte stays in the page, a wider one is replaced.
  const unsigned bytes = insn.opcode_map == 0 && insn.opcode != 0xe8 && insn.opcode != 0xe9 ? 1
                         : !Is64() && insn.operand_bits == 16                               ? 2
                                                                                            : 4;
  uint64_t from = kInsn + insn.length;
  int64_t disp = static_cast<int64_t>(target - from);
  if (bytes == 1) disp = static_cast<int8_t>(disp);
  if (bytes == 1 && disp < 0 && disp >= -static_cast<int>(insn.length)) disp = 5;
  std::memcpy(out.code.data() + insn.length - bytes, &disp, bytes);
  CHECK(bt::Decode(out.code, code_size_, out.insn) == bt::DecodeStatus::kOk);
}

// Images for FXRSTOR, XRSTOR and FLDENV, masks in EDX:EAX, and what saved images hold of the
// host's.
void Generator::PrepareState(Case& out, uint64_t memory) {
  const Insn& insn = out.insn;
  const auto poke = [&](uint64_t offset, auto value) {
    Poke(out, memory + offset, &value, sizeof(value));
  };
  const bool wide = insn.operand_bits != 16;
  if (IsXsave(insn.mnemonic) || insn.mnemonic == Mnemonic::FXSAVE ||
      insn.mnemonic == Mnemonic::FXSAVE64) {
    for (unsigned st = 0; st < 8; ++st)
      out.ignored.push_back({memory + 32 + 16 * st + 10, 6});  // reserved
  }
  switch (insn.mnemonic) {
    case Mnemonic::FNSTENV:
    case Mnemonic::FNSAVE:
      out.ignored.push_back(wide ? Case::Range{memory + 12, 16} : Case::Range{memory + 6, 8});
      break;
    case Mnemonic::FXRSTOR:
    case Mnemonic::FXRSTOR64:
    case Mnemonic::XRSTOR:
    case Mnemonic::XRSTOR64:
    case Mnemonic::XRSTORS:
    case Mnemonic::XRSTORS64: {
      if (!OneIn(16)) poke(24, static_cast<uint32_t>(random_() & 0xffff));
      // Only what the guest's XCR0 has, or what no processor's has (bit 62).
      const uint64_t components = OneIn(16) ? 1ull << 62 : 7 & random_();
      uint64_t header[8] = {components};
      if (OneIn(3)) header[1] = (1ull << 63) | (7 & random_()) | (OneIn(4) ? 0 : components);
      if (OneIn(8)) header[1 + Below(7)] ^= 1ull << Below(3);
      Poke(out, memory + 512, header, sizeof(header));
      break;
    }
    default:
      break;
  }
  if (IsXsave(insn.mnemonic) || insn.mnemonic == Mnemonic::XRSTOR ||
      insn.mnemonic == Mnemonic::XRSTOR64) {
    out.registers.gpr[0] = 7 & random_();
    out.registers.gpr[2] = 0;
  }
}

void Generator::Finish(Case& out) {
  out.code.resize(out.insn.length);
  FillRegisters(out.registers);
  const Family family = FamilyOf(out.insn);
  uint64_t* gpr = out.registers.gpr.data();
  uint64_t memory = 0;
  if (family == Family::String) {
    gpr[6] = DataAddress(8);
    gpr[7] = DataAddress(8);
    // Whether a count of zero spares INS and OUTS the check of the port differs.
    gpr[1] = 1 + Below(40) - (out.insn.opcode >= 0x70 ? OneIn(8) : 0);
  } else if (HasMemory(out.insn)) {
    memory = PlaceMemoryOperand(out);
  }
  switch (out.insn.mnemonic) {
    case Mnemonic::MASKMOVDQU:
    case Mnemonic::VMASKMOVDQU:
    case Mnemonic::MASKMOVQ:
    case Mnemonic::XLAT:
    case Mnemonic::ENTER:
    case Mnemonic::LEAVE:
      gpr[3] = kData + 0x1000 + Below(0x1e00);
      gpr[5] = kData + 0x1400 + Below(0x800);
      gpr[7] = kData + 0x1000 + Below(0x1e00);
      break;
    case Mnemonic::POPA:
    case Mnemonic::POPAD:  // one that faults has loaded some registers on AMD; it starts again
      gpr[4] = kWritable + Below(0x1fe0);
      break;
    case Mnemonic::POPF:
    case Mnemonic::POPFD:
    case Mnemonic::POPFQ: {
      // Without TF and AC: the host's harness would trip over them.
      const uint64_t flags = random_() & ~0x40100ull;
      Poke(out, gpr[4], &flags, 8);
      if (gpr[4] < kWritable || gpr[4] + 8 > kWritableEnd) gpr[4] = kWritable + 0x800;
      Poke(out, gpr[4], &flags, 8);
      break;
    }
    default:
      break;
  }
  if (family == Family::Branch || family == Family::Jcc) PrepareBranch(out, memory);
  if (family == Family::XState || family == Family::X87) PrepareState(out, memory);
  if (!Is64()) {
    for (uint64_t& reg : out.registers.gpr) reg &= 0xffffffff;
  }
}

}  // namespace difftest
