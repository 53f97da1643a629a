// The MC146818A real-time clock and the CMOS RAM of a PC. [MC146818]
#pragma once

#include <cstdint>

namespace legacy::rtc {

inline constexpr uint16_t kPort = 0x70;  // index, data
inline constexpr uint64_t kPorts = 2;
inline constexpr unsigned kIrq = 8;
inline constexpr unsigned kCmosSize = 128;

// Index of a byte. [MC146818] figure 9; from CENTURY on, the use that PC firmware makes of the RAM.
enum class Reg : uint8_t {
  SECONDS = 0x00,
  SECONDS_ALARM = 0x01,
  MINUTES = 0x02,
  MINUTES_ALARM = 0x03,
  HOURS = 0x04,
  HOURS_ALARM = 0x05,
  DAY_OF_WEEK = 0x06,  // 1 = Sunday
  DATE_OF_MONTH = 0x07,
  MONTH = 0x08,
  YEAR = 0x09,
  A = 0x0A,
  B = 0x0B,
  C = 0x0C,
  D = 0x0D,
  BASE_MEMORY = 0x15,           // 2 bytes, KiB below 640 KiB
  EXTENDED_MEMORY = 0x17,       // 2 bytes, KiB from 1 MiB, at most 63 MiB
  EXTENDED_MEMORY_POST = 0x30,  // the same once more
  CENTURY = 0x32,               // BCD or binary as the others
  MEMORY_ABOVE_16M = 0x34,      // 2 bytes, 64 KiB units from 16 MiB to 4 GiB
  MEMORY_ABOVE_4G = 0x5B,       // 3 bytes, 64 KiB units
  CPU_COUNT_LESS_ONE = 0x5F,
};

// [MC146818] Register A: UIP, divider, rate
enum class A : uint8_t { UIP = 0x80, DV = 0x70, RS = 0x0F };
inline constexpr uint8_t kDvRunning = 0x20;  // 32.768 kHz time base

// [MC146818] Register B
enum class B : uint8_t {
  SET = 0x80,
  PIE = 0x40,
  AIE = 0x20,
  UIE = 0x10,
  SQWE = 0x08,
  DM = 0x04,   // 1 = binary, 0 = BCD
  H24 = 0x02,  // 1 = 24 hours
  DSE = 0x01,
};

// [MC146818] Register C; a flag stands where its enable bit is in B.
enum class C : uint8_t { IRQF = 0x80, PF = 0x40, AF = 0x20, UF = 0x10 };

inline constexpr uint8_t kDValid = 0x80;         // VRT: the battery is good
inline constexpr uint8_t kAlarmDontCare = 0xC0;  // both top bits set: any value matches
inline constexpr int64_t kUipLead = 244'000;     // ns that UIP is set before an update

}  // namespace legacy::rtc
