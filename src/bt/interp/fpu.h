// The x87, MMX and SSE state as FXSAVE lays it out, and the checks that precede its use.
// [SDM 1] 10.5.1
#pragma once

#include <cstring>

#include "bt/interp/cpu.h"
#include "bt/interp/host_fpu.h"

namespace bt {

inline constexpr uint32_t kInitialMxcsr = 0x1f80;

// View of Cpu::fpu_. All accessors copy: the area is bytes.
class FpuState {
 public:
  explicit FpuState(vmm::XsaveArea& area) : bytes_(area.bytes.data()) {}

  static constexpr unsigned kFcw = 0, kFsw = 2, kFtw = 4, kFop = 6, kFip = 8, kFdp = 16,
                            kMxcsr = 24, kSt0 = 32, kXmm0 = 160, kXstateBv = 512, kYmmHigh0 = 576;
  static constexpr uint16_t kInitialFcw = 0x037f;

  template <class T>
  T Get(unsigned offset) const {
    T value;
    std::memcpy(&value, bytes_ + offset, sizeof(T));
    return value;
  }
  template <class T>
  void Set(unsigned offset, T value) {
    std::memcpy(bytes_ + offset, &value, sizeof(T));
  }

  uint32_t mxcsr() const { return Get<uint32_t>(kMxcsr); }
  uint16_t fsw() const { return Get<uint16_t>(kFsw); }
  bool ExceptionPending() const { return fsw() & 0x80; }
  unsigned top() const { return (fsw() >> 11) & 7; }
  uint8_t* xmm(unsigned index) { return bytes_ + kXmm0 + 16 * index; }
  // Bits 255:128 of YMMn. [SDM 1] 13.5.3
  uint8_t* ymm_high(unsigned index) { return bytes_ + kYmmHigh0 + 16 * index; }
  // MMn is physical register n; the image holds ST(i) = physical (i + TOP) mod 8.
  uint8_t* mm(unsigned index) { return bytes_ + kSt0 + 16 * ((index - top()) & 7); }
  uint8_t* data() { return bytes_; }

 private:
  uint8_t* bytes_;
};

// #UD, #NM by CR0 and CR4. False: raised. [SDM 3A] 13.1, table 2-2
inline bool SseUsable(Cpu& cpu) {
  if (__builtin_expect((cpu.cr0_ & (cr0::EM | cr0::TS)) || !(cpu.cr4_ & cr4::OSFXSR), 0)) {
    return (cpu.cr0_ & cr0::EM) || !(cpu.cr4_ & cr4::OSFXSR) ? cpu.Raise(kUD) : cpu.Raise(kNM);
  }
  return true;
}

// The same for VEX-encoded vector instructions. [SDM 2A] 2.7, table 2-17
inline bool VexUsable(Cpu& cpu) {
  constexpr uint64_t kSseAndAvx = 6;
  if (__builtin_expect(!(cpu.cr4_ & cr4::OSXSAVE) || (cpu.xcr0_ & kSseAndAvx) != kSseAndAvx ||
                           !cpu.ProtectedMode() || (cpu.cr0_ & cr0::TS),
                       0)) {
    const bool enabled = (cpu.cr4_ & cr4::OSXSAVE) && (cpu.xcr0_ & kSseAndAvx) == kSseAndAvx;
    return cpu.Raise(enabled && cpu.ProtectedMode() ? kNM : kUD);
  }
  return true;
}

// Brings components (bits of XCR0, 0 to 2) of an XSAVE area in standard form into their initial
// configuration; of the vector registers the first `vector_bytes`. [SDM 1] 13.6
void InitComponents(uint8_t* area, uint64_t components, unsigned vector_bytes);
// XINUSE.
uint64_t ComponentsInUse(const Cpu& cpu);

// Raises what a write would raise, and sets A and D. (x87.cc)
bool CheckWrite(Cpu& cpu, uint64_t linear, unsigned size, bool stack);

// `waiting`: a pending unmasked exception is raised first. [SDM 1] 8.7
bool X87Usable(Cpu& cpu, bool waiting);

}  // namespace bt
