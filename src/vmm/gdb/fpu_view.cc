#include "vmm/gdb/fpu_view.h"

#include <algorithm>
#include <cstring>

namespace vmm::gdb {
namespace {

// Byte offsets. [SDM 1] table 10-2, 13.4.2; AVX state stands at 576 on every processor that has it
enum Offset : unsigned {
  kFcw = 0,
  kFsw = 2,
  kFtw = 4,
  kFop = 6,
  kFip = 8,
  kFcs = 12,
  kFdp = 16,
  kFds = 20,
  kMxcsr = 24,
  kSt0 = 32,
  kXmm0 = 160,
  kXstateBv = 512,
  kYmmHigh0 = 576,
};

// Components of XSTATE_BV. [SDM 1] 13.1
constexpr uint64_t kX87 = 1, kSse = 2, kAvx = 4;

constexpr uint16_t kInitialFcw = 0x37f;
constexpr uint32_t kMxcsrKnown = 0x2ffff;  // with AMD's MM
constexpr unsigned kTagValid = 0, kTagZero = 1, kTagSpecial = 2, kTagEmpty = 3;

template <class T>
T Get(const XsaveArea& area, unsigned offset) {
  T value;
  std::memcpy(&value, area.bytes.data() + offset, sizeof value);
  return value;
}
template <class T>
void Put(XsaveArea& area, unsigned offset, T value) {
  std::memcpy(area.bytes.data() + offset, &value, sizeof value);
}

bool InUse(const XsaveArea& area, uint64_t component) {
  return Get<uint64_t>(area, kXstateBv) & component;
}

// Before a register of `component` is written: the rest of it becomes what it reads as.
void Use(XsaveArea& area, uint64_t component) {
  const auto in_use = Get<uint64_t>(area, kXstateBv);
  if (in_use & component) return;
  Put<uint64_t>(area, kXstateBv, in_use | component);
  uint8_t* bytes = area.bytes.data();
  if (component == kX87) {
    std::memset(bytes, 0, kMxcsr);
    std::memset(bytes + kSt0, 0, kXmm0 - kSt0);
    Put<uint16_t>(area, kFcw, kInitialFcw);
  } else if (component == kSse) {
    std::memset(bytes + kXmm0, 0, 16 * 16);
  } else {
    std::memset(bytes + kYmmHigh0, 0, 16 * 16);
  }
}

// The tag of the value in ST(i). [SDM 1] 8.1.7, table 4-3
unsigned TagOf(const XsaveArea& area, unsigned st) {
  const auto fraction = Get<uint64_t>(area, kSt0 + 16 * st);
  const unsigned exponent = Get<uint16_t>(area, kSt0 + 16 * st + 8) & 0x7fff;
  if (exponent == 0 && fraction == 0) return kTagZero;
  if (exponent == 0 || exponent == 0x7fff || !(fraction >> 63)) return kTagSpecial;
  return kTagValid;
}

uint16_t FullTags(const XsaveArea& area) {
  const unsigned top = Get<uint16_t>(area, kFsw) >> 11 & 7;
  const auto abridged = Get<uint8_t>(area, kFtw);
  unsigned tags = 0;
  for (unsigned physical = 0; physical < 8; ++physical) {
    const unsigned tag = abridged >> physical & 1 ? TagOf(area, (physical - top) & 7) : kTagEmpty;
    tags |= tag << (2 * physical);
  }
  return static_cast<uint16_t>(tags);
}

uint8_t AbridgedTags(uint16_t full) {
  unsigned abridged = 0;
  for (unsigned physical = 0; physical < 8; ++physical) {
    if ((full >> (2 * physical) & 3) != kTagEmpty) abridged |= 1u << physical;
  }
  return static_cast<uint8_t>(abridged);
}

struct Place {
  unsigned offset;
  uint64_t component;
};

Place PlaceOf(VectorRegister reg) {
  switch (reg.kind) {
    case VectorRegister::Kind::kSt:
      return {kSt0 + 16u * reg.index, kX87};
    case VectorRegister::Kind::kXmm:
      return {kXmm0 + 16u * reg.index, kSse};
    case VectorRegister::Kind::kYmmHigh:
      break;
  }
  return {kYmmHigh0 + 16u * reg.index, kAvx};
}

}  // namespace

uint32_t ReadX87Control(const XsaveArea& area, unsigned index) {
  if (!InUse(area, kX87)) return index == 0 ? kInitialFcw : index == 2 ? 0xffff : 0;
  switch (index) {
    case 0:
      return Get<uint16_t>(area, kFcw);
    case 1:
      return Get<uint16_t>(area, kFsw);
    case 2:
      return FullTags(area);
    case 3:
      return Get<uint16_t>(area, kFcs);
    case 4:
      return Get<uint32_t>(area, kFip);
    case 5:
      return Get<uint16_t>(area, kFds);
    case 6:
      return Get<uint32_t>(area, kFdp);
    default:
      return Get<uint16_t>(area, kFop);
  }
}

void WriteX87Control(XsaveArea& area, unsigned index, uint32_t value) {
  Use(area, kX87);
  const auto low = static_cast<uint16_t>(value);
  switch (index) {
    case 0:
      return Put<uint16_t>(area, kFcw, low);
    case 1:
      return Put<uint16_t>(area, kFsw, low);
    case 2:
      return Put<uint8_t>(area, kFtw, AbridgedTags(low));
    case 3:
      return Put<uint16_t>(area, kFcs, low);
    case 4:
      return Put<uint32_t>(area, kFip, value);
    case 5:
      return Put<uint16_t>(area, kFds, low);
    case 6:
      return Put<uint32_t>(area, kFdp, value);
    default:
      return Put<uint16_t>(area, kFop, low & 0x7ff);
  }
}

uint32_t ReadMxcsr(const XsaveArea& area) {
  return Get<uint32_t>(area, kMxcsr);
}

bool WriteMxcsr(XsaveArea& area, uint32_t value) {
  if (value & ~kMxcsrKnown) return false;
  Use(area, kSse);
  Put(area, kMxcsr, value);
  return true;
}

void ReadVector(const XsaveArea& area, VectorRegister reg, std::span<uint8_t> bytes) {
  const auto [offset, component] = PlaceOf(reg);
  if (InUse(area, component)) {
    std::copy_n(area.bytes.begin() + offset, bytes.size(), bytes.begin());
  } else {
    std::ranges::fill(bytes, 0);
  }
}

void WriteVector(XsaveArea& area, VectorRegister reg, std::span<const uint8_t> bytes) {
  const auto [offset, component] = PlaceOf(reg);
  Use(area, component);
  std::ranges::copy(bytes, area.bytes.begin() + offset);
}

}  // namespace vmm::gdb
