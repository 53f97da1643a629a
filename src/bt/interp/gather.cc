// VEX instructions that touch memory element by element: masked moves and gathers. An element whose
// mask bit is clear is not accessed and can't fault. [SDM 2C] VMASKMOV, VPMASKMOV, VPGATHER
#include <algorithm>

#include "bt/interp/families.h"
#include "bt/interp/vex.h"

namespace bt {
namespace {

// aux: size of an element, and of a gather's index.
constexpr uint8_t kElement8 = 1, kIndex8 = 2, k256 = 4;

struct Vector {
  uint8_t bytes[32] = {};
  bool Selected(unsigned element, unsigned size) const {
    return bytes[(element + 1) * size - 1] & 0x80;
  }
};

Vector ReadVector(Cpu& cpu, uint8_t number) {
  Vector vector;
  FpuState state(cpu.fpu_);
  std::memcpy(vector.bytes, state.xmm(number), 16);
  std::memcpy(vector.bytes + 16, state.ymm_high(number), 16);
  return vector;
}

unsigned ElementSize(const Op& op) {
  return op.aux & kElement8 ? 8 : 4;
}
unsigned VectorSize(const Op& op) {
  return op.aux & k256 ? 32 : 16;
}

bool LoadElement(Cpu& cpu, const Op& op, uint64_t ea, unsigned size, uint8_t* to) {
  uint64_t linear;
  return cpu.AddressAt(op, ea, size, Access::kRead, linear) &&
         cpu.LoadSlow(linear, to, size, op.mode & Op::kStack, cpu.view_);
}

// dst: destination, src: mask.
bool MaskedLoad(Cpu& cpu, const Op& op) {
  if (!VexUsable(cpu)) return false;
  const Vector mask = ReadVector(cpu, op.src);
  Vector result;
  const unsigned size = ElementSize(op);
  for (unsigned i = 0; i < VectorSize(op) / size; ++i) {
    if (!mask.Selected(i, size)) continue;
    if (!LoadElement(cpu, op, cpu.Effective(op) + i * size, size, result.bytes + i * size))
      return false;
  }
  FpuState state(cpu.fpu_);
  WriteVector(state, op.dst, result.bytes);
  return true;
}

// src: mask, src2: source. All elements are known to be writable before the first is written.
bool MaskedStore(Cpu& cpu, const Op& op) {
  if (!VexUsable(cpu)) return false;
  const Vector mask = ReadVector(cpu, op.src), from = ReadVector(cpu, op.src2);
  const unsigned size = ElementSize(op), count = VectorSize(op) / size;
  uint64_t linear[8];
  for (unsigned i = 0; i < count; ++i) {
    if (!mask.Selected(i, size)) continue;
    if (!cpu.AddressAt(op, cpu.Effective(op) + i * size, size, Access::kWrite, linear[i]) ||
        !CheckWrite(cpu, linear[i], size, op.mode & Op::kStack)) {
      return false;
    }
  }
  for (unsigned i = 0; i < count; ++i) {
    if (mask.Selected(i, size) &&
        !cpu.StoreSlow(linear[i], from.bytes + i * size, size, op.mode & Op::kStack, cpu.view_)) {
      return false;
    }
  }
  return true;
}

// dst: destination, src: mask, src2: index. A fault leaves the elements before it done and their
// mask bits clear, so that the instruction can be started again.
bool Gather(Cpu& cpu, const Op& op) {
  if (!VexUsable(cpu)) return false;
  Vector result = ReadVector(cpu, op.dst), mask = ReadVector(cpu, op.src);
  const Vector index = ReadVector(cpu, op.src2);
  const unsigned size = ElementSize(op), index_size = op.aux & kIndex8 ? 8 : 4;
  const unsigned count = VectorSize(op) / std::max(size, index_size);
  FpuState state(cpu.fpu_);
  for (unsigned i = 0; i < count; ++i) {
    if (!mask.Selected(i, size)) {
      std::memset(mask.bytes + i * size, 0, size);
      continue;
    }
    int64_t offset;
    if (index_size == 8) {
      std::memcpy(&offset, index.bytes + i * 8, 8);
    } else {
      int32_t narrow;
      std::memcpy(&narrow, index.bytes + i * 4, 4);
      offset = narrow;
    }
    const uint64_t ea = cpu.Effective(op) + (static_cast<uint64_t>(offset) << (op.imm & 3));
    if (!LoadElement(cpu, op, ea, size, result.bytes + i * size)) {
      WriteVector(state, op.dst, result.bytes);
      WriteVector(state, op.src, mask.bytes);
      return false;
    }
    std::memset(mask.bytes + i * size, 0, size);
  }
  std::memset(result.bytes + count * size, 0, 32 - count * size);
  WriteVector(state, op.dst, result.bytes);
  WriteVector(state, op.src, Vector().bytes);
  return true;
}

}  // namespace

bool SelectElementMove(const Insn& insn, Op& op, unsigned size) {
  op.aux = static_cast<uint8_t>((size == 8 ? kElement8 : 0) | (insn.vex_256 ? k256 : 0));
  op.dst = insn.operand[0].reg;
  op.src = insn.operand[1].reg;
  op.src2 = insn.operand[2].reg;
  return Use(op, IsMem(insn.operand[0]) ? &MaskedStore : &MaskedLoad);
}

bool SelectGather(const Insn& insn, Op& op) {
  const uint8_t dst = insn.operand[0].reg, mask = insn.operand[2].reg, index = insn.mem.index;
  if (dst == mask || dst == index || mask == index) return false;
  const bool wide_index = insn.opcode & 1;  // 90 and 92: doublewords, 91 and 93: quadwords
  op.aux = static_cast<uint8_t>((insn.rex_w ? kElement8 : 0) | (wide_index ? kIndex8 : 0) |
                                (insn.vex_256 ? k256 : 0));
  op.dst = dst;
  op.src = mask;
  op.src2 = index;
  op.index = kZero;
  op.shift = 0;
  op.imm = insn.mem.shift;
  return Use(op, &Gather);
}

}  // namespace bt
