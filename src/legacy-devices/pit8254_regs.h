// Ports and command bytes of the 8254 interval timer, and of system control port B. [8254]
#pragma once

#include <cstdint>

namespace legacy::pit {

inline constexpr uint16_t kPort = 0x40;  // counters 0 to 2, then the control word
inline constexpr uint64_t kSize = 4;
inline constexpr uint16_t kPortBPort = 0x61;
inline constexpr uint64_t kControlOffset = 3;
inline constexpr unsigned kIrq = 0;  // OUT of counter 0

// The crystal of the PC, 14.31818 MHz, divided by 12. [PC-AT]
inline constexpr uint64_t kHz = 1'193'182;

// Control word. [8254] "Control word format"
enum class CW : uint8_t {
  BCD = 0x01,
  M = 0x0E,   // mode; 6 and 7 are 2 and 3
  RW = 0x30,  // 0: latch the count
  SC = 0xC0,  // counter; 3: read-back
};
inline constexpr uint8_t kStoredControl = 0x3F;  // what a counter keeps and its status shows

enum class Access : uint8_t { kLatch = 0, kLow = 1, kHigh = 2, kLowHigh = 3 };

// Read-back command: a 0 latches. [8254] "Read-back command format"
enum class ReadBack : uint8_t {
  CNT2 = 0x08,
  CNT1 = 0x04,
  CNT0 = 0x02,
  STATUS = 0x10,
  COUNT = 0x20
};

// Status byte, above the six bits of the control word. [8254] "Status byte"
enum class Status : uint8_t { NULL_COUNT = 0x40, OUT = 0x80 };

// System control port B. [PIIX3] NSC
enum class PortB : uint8_t {
  TIM_CNT2_EN = 0x01,  // gate of counter 2
  SPKR_DAT_EN = 0x02,  // lets OUT of counter 2 through to the speaker
  PCI_SERR_EN = 0x04,
  IOCHK_EN = 0x08,
  REF_TOGGLE = 0x10,    // read only: changes with each refresh cycle
  TMR2_OUT_STS = 0x20,  // read only
};
inline constexpr uint8_t kPortBWritable = 0x0F;
inline constexpr int64_t kRefreshTicks = 18;  // counter 1 as a BIOS sets it: every 15.1 us

}  // namespace legacy::pit
