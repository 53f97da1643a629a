// Registers of the local APIC: byte offsets in its page; MSR 0x800 + offset / 16 in x2APIC mode.
// [SDM 3A] table 10-1, table 10-6
#pragma once

#include <cstdint>
#include <type_traits>

namespace vmm::apic {

enum class Reg : uint32_t {
  ID = 0x020,
  VERSION = 0x030,
  TPR = 0x080,
  APR = 0x090,
  PPR = 0x0a0,
  EOI = 0x0b0,
  RRD = 0x0c0,
  LDR = 0x0d0,
  DFR = 0x0e0,
  SVR = 0x0f0,
  ISR0 = 0x100,  // eight registers of 32 vectors each, 0x10 apart; so are TMR and IRR
  TMR0 = 0x180,
  IRR0 = 0x200,
  ESR = 0x280,
  ICR_LOW = 0x300,
  ICR_HIGH = 0x310,
  LVT_TIMER = 0x320,
  LVT_THERMAL = 0x330,
  LVT_PERFMON = 0x340,
  LVT_LINT0 = 0x350,
  LVT_LINT1 = 0x360,
  LVT_ERROR = 0x370,
  TIMER_INITIAL = 0x380,
  TIMER_CURRENT = 0x390,
  TIMER_DIVIDE = 0x3e0,
  SELF_IPI = 0x3f0,  // x2APIC only
};

inline constexpr uint32_t kMsrBase = 0x800;  // first MSR of x2APIC mode
inline constexpr uint32_t kMsrLast = 0x83f;
inline constexpr uint32_t kMsrApicBase = 0x1b;
inline constexpr uint32_t kMsrTscDeadline = 0x6e0;

// IA32_APIC_BASE. [SDM 3A] 10.4.4, 10.12.1
enum class Base : uint64_t { BSP = 1u << 8, EXTD = 1u << 10, EN = 1u << 11 };
inline constexpr uint64_t kDefaultBase = 0xfee00000;

// Version register: integrated APIC, six LVT entries, EOI-broadcast suppression. [SDM 3A] 10.4.8
inline constexpr uint32_t kVersion = 0x14 | 5u << 16 | 1u << 24;

// Spurious-interrupt vector register. [SDM 3A] 10.9
enum class Svr : uint32_t { ENABLE = 1u << 8, FOCUS = 1u << 9, NO_EOI_BROADCAST = 1u << 12 };

// Local vector table. [SDM 3A] 10.5.1
enum class Lvt : uint32_t {
  VECTOR = 0xff,
  MODE = 7u << 8,
  STATUS = 1u << 12,  // read only
  POLARITY = 1u << 13,
  REMOTE_IRR = 1u << 14,  // read only
  LEVEL = 1u << 15,
  MASKED = 1u << 16,
  TIMER_MODE = 3u << 17,
};

enum class TimerMode : uint8_t { kOneShot = 0, kPeriodic = 1, kTscDeadline = 2, kReserved = 3 };

// Interrupt command register, low half. [SDM 3A] 10.6.1
enum class Icr : uint32_t {
  VECTOR = 0xff,
  MODE = 7u << 8,
  LOGICAL = 1u << 11,
  STATUS = 1u << 12,  // read only
  ASSERT = 1u << 14,
  LEVEL = 1u << 15,
  SHORTHAND = 3u << 18,
};

// Delivery modes of ICR, LVT, IOAPIC entries and MSI data. [SDM 3A] 10.6.1, 10.11.2
enum class DeliveryMode : uint8_t {
  kFixed = 0,
  kLowestPriority = 1,
  kSmi = 2,
  kNmi = 4,
  kInit = 5,
  kStartUp = 6,  // ICR only
  kExtInt = 7,   // not in the ICR
};

// Error status register. [SDM 3A] 10.5.3
enum class Esr : uint32_t {
  SEND_ILLEGAL_VECTOR = 1u << 5,
  RECEIVE_ILLEGAL_VECTOR = 1u << 6,
  ILLEGAL_REGISTER = 1u << 7,
};

template <class Enum>
constexpr auto Bit(Enum e) {
  return static_cast<std::underlying_type_t<Enum>>(e);
}

}  // namespace vmm::apic
