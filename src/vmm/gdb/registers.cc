#include "vmm/gdb/registers.h"

#include <algorithm>
#include <cstring>

#include "vmm/core/base/bytes.h"
#include "vmm/gdb/fpu_view.h"

namespace vmm::gdb {
namespace {

using Source = Register::Source;

constexpr uint64_t kFlagsFixed = 2;           // [SDM 1] 3.4.3
constexpr uint64_t kFlagsKnown = 0x003f7fd7;  // all that are not reserved
constexpr uint64_t kFlagV86 = 1 << 17;
constexpr uint64_t kEferLme = 1 << 8, kEferLma = 1 << 10;
constexpr uint64_t kCr0Pe = 1, kCr0Et = 0x10, kCr0Pg = uint64_t{1} << 31;
constexpr uint64_t kCr0Known = 0xe005003f;
constexpr uint64_t kCr4Pae = 1 << 5, kCr4La57 = 1 << 12;

Seg SegmentAt(unsigned index) {  // in GDB's order
  constexpr Seg kOrder[] = {Seg::CS, Seg::SS, Seg::DS, Seg::ES, Seg::FS, Seg::GS};
  return kOrder[index];
}

SegmentState& SegmentOf(CpuState& state, unsigned index) {
  return state.seg[static_cast<unsigned>(SegmentAt(index))];
}
const SegmentState& SegmentOf(const CpuState& state, unsigned index) {
  return state.seg[static_cast<unsigned>(SegmentAt(index))];
}

uint64_t ReadNumber(const Register& reg, const CpuState& state) {
  switch (reg.source) {
    case Source::kGpr:
      return state.gpr[reg.index];
    case Source::kRip:
      return state.rip;
    case Source::kFlags:
      return state.rflags;
    case Source::kSelector:
      return SegmentOf(state, reg.index).selector;
    case Source::kSegmentBase:
      return SegmentOf(state, reg.index).base;
    case Source::kControl:
      return reg.index == 0   ? state.cr0
             : reg.index == 2 ? state.cr2
             : reg.index == 3 ? state.cr3
             : reg.index == 4 ? state.cr4
                              : state.cr8;
    case Source::kEfer:
      return state.msr.efer;
    case Source::kKernelGsBase:
      return state.msr.kernel_gs_base;
    case Source::kDebug:
      return reg.index < 4 ? state.dr[reg.index] : reg.index == 6 ? state.dr6 : state.dr7;
    case Source::kX87Control:
      return ReadX87Control(state.xsave, reg.index);
    case Source::kMxcsr:
      return ReadMxcsr(state.xsave);
    case Source::kSt:
    case Source::kXmm:
    case Source::kYmmHigh:
      break;  // bytes
  }
  return 0;
}

// Takes `bits` from `value` if no others differ from `old`.
bool Change(uint64_t& old, uint64_t value, uint64_t fixed_bits) {
  if ((old ^ value) & fixed_bits) return false;
  old = value;
  return true;
}

bool IsCanonical(uint64_t address) {
  const auto top = static_cast<int64_t>(address) >> 47;
  return top == 0 || top == -1;
}

bool WriteControl(unsigned index, uint64_t value, CpuState& state) {
  switch (index) {
    case 0:
      return Change(state.cr0, value, kCr0Pe | kCr0Pg | kCr0Et | ~kCr0Known);
    case 2:
      state.cr2 = value;
      return true;
    case 3:
      return Change(state.cr3, value, 0xfff0'0000'0000'0000);
    case 4:  // only such as the guest may have switched on already
      return Change(state.cr4, value, kCr4Pae | kCr4La57 | ~(state.cr4 | 0xff));
    case 8:
      if (value > 15) return false;
      state.cr8 = value;
      return true;
  }
  return false;
}

bool WriteDebug(unsigned index, uint64_t value, CpuState& state) {
  if (index < 4) {
    state.dr[index] = value;
    return true;
  }
  if (value >> 32) return false;
  if (index == 6)
    state.dr6 = (value & 0xe00f) | 0xffff0ff0;
  else
    state.dr7 = (value & 0xffff23ff) | 0x400;
  return true;
}

// Elsewhere the descriptor would have to come along.
bool WriteSelector(unsigned index, uint64_t value, CpuState& state) {
  if (value > 0xffff || ((state.cr0 & kCr0Pe) && !(state.rflags & kFlagV86))) return false;
  SegmentOf(state, index).selector = static_cast<uint16_t>(value);
  SegmentOf(state, index).base = value << 4;
  return true;
}

bool WriteNumber(const Register& reg, uint64_t value, CpuState& state) {
  const bool is_long = state.msr.efer & kEferLma;
  switch (reg.source) {
    case Source::kGpr:
      state.gpr[reg.index] = value;
      return true;
    case Source::kRip:
      if (is_long ? !IsCanonical(value) : value >> 32 != 0) return false;
      state.rip = value;
      return true;
    case Source::kFlags:
      if ((state.rflags ^ value) & kFlagV86) return false;
      state.rflags = (value & kFlagsKnown) | kFlagsFixed;
      return true;
    case Source::kSelector:
      return WriteSelector(reg.index, value, state);
    case Source::kSegmentBase:
      if (is_long ? !IsCanonical(value) : value >> 32 != 0) return false;
      SegmentOf(state, reg.index).base = value;
      return true;
    case Source::kControl:
      return WriteControl(reg.index, value, state);
    case Source::kEfer:
      return Change(state.msr.efer, value, kEferLme | kEferLma | ~uint64_t{0xd01});
    case Source::kKernelGsBase:
      if (!IsCanonical(value)) return false;
      state.msr.kernel_gs_base = value;
      return true;
    case Source::kDebug:
      return WriteDebug(reg.index, value, state);
    case Source::kX87Control:
      WriteX87Control(state.xsave, reg.index, static_cast<uint32_t>(value));
      return true;
    case Source::kMxcsr:
      return WriteMxcsr(state.xsave, static_cast<uint32_t>(value));
    case Source::kSt:
    case Source::kXmm:
    case Source::kYmmHigh:
      break;
  }
  return false;
}

// The registers of more than eight bytes.
std::optional<VectorRegister> VectorOf(const Register& reg) {
  switch (reg.source) {
    case Source::kSt:
      return VectorRegister{VectorRegister::Kind::kSt, reg.index};
    case Source::kXmm:
      return VectorRegister{VectorRegister::Kind::kXmm, reg.index};
    case Source::kYmmHigh:
      return VectorRegister{VectorRegister::Kind::kYmmHigh, reg.index};
    default:
      return std::nullopt;
  }
}

}  // namespace

Architecture ArchitectureOf(const CpuState& state) {
  if (state.msr.efer & kEferLma) return Architecture::k64;
  if (!(state.cr0 & kCr0Pe) || (state.rflags & kFlagV86)) return Architecture::k16;
  return Architecture::k32;
}

std::optional<unsigned> RegisterSet::Find(std::string_view name) const {
  const auto found = std::ranges::find(registers_, name, &Register::name);
  if (found == registers_.end()) return std::nullopt;
  return static_cast<unsigned>(found - registers_.begin());
}

std::vector<uint8_t> RegisterSet::Read(unsigned number, const CpuState& state) const {
  const Register& reg = registers_[number];
  std::vector<uint8_t> bytes(reg.size);
  if (const auto vector = VectorOf(reg)) {
    ReadVector(state.xsave, *vector, bytes);
  } else {
    StoreLittleEndian(bytes, ReadNumber(reg, state));
  }
  return bytes;
}

std::vector<uint8_t> RegisterSet::ReadAll(const CpuState& state) const {
  std::vector<uint8_t> all;
  for (unsigned number = 0; number < count(); ++number) {
    const std::vector<uint8_t> bytes = Read(number, state);
    all.insert(all.end(), bytes.begin(), bytes.end());
  }
  return all;
}

bool RegisterSet::Write(unsigned number, std::span<const uint8_t> bytes, CpuState& state) const {
  const Register& reg = registers_[number];
  if (bytes.size() != reg.size) return false;
  if (std::ranges::equal(bytes, Read(number, state))) return true;  // nothing to ask
  if (const auto vector = VectorOf(reg)) {
    WriteVector(state.xsave, *vector, bytes);
    return true;
  }
  uint64_t value = LoadLittleEndian(bytes);
  // The upper half of what a 32-bit description shows stays, except where it is defined as clear.
  if (reg.source == Source::kGpr && reg.size == 4) value |= state.gpr[reg.index] & ~0xffff'ffffull;
  return WriteNumber(reg, value, state);
}

bool RegisterSet::WriteAll(std::span<const uint8_t> bytes, CpuState& state) const {
  CpuState changed = state;
  for (unsigned number = 0; number < count(); ++number) {
    const size_t size = registers_[number].size;
    if (bytes.size() < size || !Write(number, bytes.first(size), changed)) return false;
    bytes = bytes.subspan(size);
  }
  state = changed;
  return true;
}

}  // namespace vmm::gdb
