// Local APIC, IOAPIC and 8259s, as a driver uses them. [SDM 3A] 10, [IOAPIC], [8259A]
#pragma once

#include "guest.h"

namespace guest {

enum class Apic : uint32_t {
  ID = 0x20,
  VERSION = 0x30,
  TPR = 0x80,
  PPR = 0xa0,
  EOI = 0xb0,
  LDR = 0xd0,
  DFR = 0xe0,
  SVR = 0xf0,
  ISR = 0x100,
  TMR = 0x180,
  IRR = 0x200,
  ESR = 0x280,
  ICR_LOW = 0x300,
  ICR_HIGH = 0x310,
  LVT_TIMER = 0x320,
  LVT_LINT0 = 0x350,
  LVT_LINT1 = 0x360,
  LVT_ERROR = 0x370,
  TIMER_INITIAL = 0x380,
  TIMER_CURRENT = 0x390,
  TIMER_DIVIDE = 0x3e0,
};
inline constexpr uint64_t kApicPage = 0xfee00000;
inline uint32_t ReadApic(Apic reg) {
  return ReadMemory<uint32_t>(kApicPage + static_cast<uint32_t>(reg));
}
inline void WriteApic(Apic reg, uint32_t value) {
  WriteMemory<uint32_t>(kApicPage + static_cast<uint32_t>(reg), value);
}
inline void EndOfInterrupt() {
  WriteApic(Apic::EOI, 0);
}
// Bit `vector` of IRR, ISR or TMR.
inline bool ApicBit(Apic first, uint8_t vector) {
  const uint32_t reg = static_cast<uint32_t>(first) + vector / 32 * 0x10;
  return ReadMemory<uint32_t>(kApicPage + reg) >> (vector % 32) & 1;
}
void EnableApic();  // software-enabled, spurious vector 0xff, TPR 0, LINT0 masked

enum Icr : uint32_t {
  kFixed = 0,
  kNmiMode = 0x400,
  kInit = 0x500,
  kStartup = 0x600,
  kAssert = 0x4000,
  kSelf = 0x40000,
  kAll = 0x80000,
  kOthers = 0xc0000,
};
void SendIpi(uint32_t icr_low, uint8_t destination = 0);

inline constexpr uint64_t kIoapic = 0xfec00000;
uint32_t ReadIoapic(uint8_t index);
void WriteIoapic(uint8_t index, uint32_t value);
void SetIoapicPin(unsigned pin, uint64_t entry);
inline constexpr uint64_t kPinMasked = 0x10000, kPinLevel = 0x8000, kPinActiveLow = 0x2000;

// Vectors 0x20-0x2f, everything masked.
void InitPics();
void UnmaskPic(unsigned irq);
void MaskPics();

}  // namespace guest
