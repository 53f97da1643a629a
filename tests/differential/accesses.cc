#include "accesses.h"

#include <algorithm>

namespace difftest {
namespace {

constexpr uint8_t kRsp = 4;

bool NamesMemory(const bt::Insn& insn) {
  return std::any_of(
      insn.operand.begin(), insn.operand.begin() + insn.operand_count,
      [](const bt::Operand& operand) { return operand.kind == bt::OperandKind::kMem; });
}

// `opcode` with `reg` and memory at `mem`: SIB and 32 bits of displacement, always.
void AddMemory(const bt::MemoryOperand& mem, bool wide, std::initializer_list<uint8_t> opcode,
               unsigned reg, std::vector<uint8_t>& code) {
  const bool has_base = mem.base != bt::MemoryOperand::kNoReg;
  const bool has_index = mem.index != bt::MemoryOperand::kNoReg;
  const unsigned base = has_base ? mem.base : 5, index = has_index ? mem.index : kRsp;
  if (mem.segment == 4) code.push_back(0x64);
  if (mem.segment == 5) code.push_back(0x65);
  code.push_back(
      static_cast<uint8_t>(0x40 | wide << 3 | (reg >> 3) << 2 | (index >> 3) << 1 | base >> 3));
  code.insert(code.end(), opcode);
  code.push_back(static_cast<uint8_t>((has_base ? 0x84 : 0x04) | (reg & 7) << 3));
  code.push_back(static_cast<uint8_t>(mem.shift << 6 | (index & 7) << 3 | (base & 7)));
  const auto disp = static_cast<uint32_t>(mem.disp);
  for (unsigned shift = 0; shift < 32; shift += 8)
    code.push_back(static_cast<uint8_t>(disp >> shift));
}

}  // namespace

bool AddAccess(const bt::Insn& insn, uint16_t spared, Random& random, std::vector<uint8_t>& code) {
  const bool named = NamesMemory(insn) && insn.address_bits == 64 && !insn.mem.vector_index &&
                     insn.mem.base != bt::MemoryOperand::kRip;
  bt::MemoryOperand mem = insn.mem;
  if (!named || random() % 4 == 0) {
    mem = {};
    mem.base = kRsp;
  }
  const int64_t distance = static_cast<int64_t>(random() % 80) - 40;
  mem.disp += random() % 2 ? distance : distance * 16;
  if (mem.disp != static_cast<int32_t>(mem.disp)) return false;
  const unsigned reg = random() % 16;
  const auto spares = [spared](unsigned which) { return (spared >> which & 1) != 0; };
  switch (random() % 8) {
    case 0:
    case 1:  // MOV r64, m
      if (spares(reg)) return false;
      AddMemory(mem, true, {0x8b}, reg, code);
      return true;
    case 2:  // MOV m, r64
      AddMemory(mem, true, {0x89}, reg, code);
      return true;
    case 3:  // MOV m, r8
      AddMemory(mem, false, {0x88}, reg, code);
      return true;
    case 4:  // MOVUPS m, xmm
      AddMemory(mem, false, {0x0f, 0x11}, reg, code);
      return true;
    case 5:  // MOVAPS xmm15, m
      mem.disp &= ~15;
      AddMemory(mem, false, {0x0f, 0x28}, 15, code);
      return true;
    case 6: {  // PUSH, POP
      const bool push = random() % 2;
      if (spares(kRsp) || (!push && (spares(reg) || reg == kRsp))) return false;
      code.push_back(static_cast<uint8_t>(0x40 | reg >> 3));
      code.push_back(static_cast<uint8_t>((push ? 0x50 : 0x58) | (reg & 7)));
      return true;
    }
    default:  // LEA base, [base + disp]
      if (mem.base == bt::MemoryOperand::kNoReg || spares(mem.base)) return false;
      mem.index = bt::MemoryOperand::kNoReg;
      mem.shift = 0;
      mem.segment = 3;
      mem.disp = distance;
      AddMemory(mem, true, {0x8d}, mem.base, code);
      return true;
  }
}

}  // namespace difftest
