// Command words of the 8259A. [8259A] "Programming the 8259A"
#pragma once

#include <cstdint>

namespace vmm::pic8259 {

inline constexpr uint16_t kMasterPort = 0x20;
inline constexpr uint16_t kSlavePort = 0xA0;
inline constexpr uint16_t kElcrPort = 0x4D0;
inline constexpr unsigned kCascadePin = 2;  // of the master, where the slave's INT is wired

// Written to the even port with ICW1::INIT set; then ICW2, ICW3 and ICW4 follow at the odd port.
enum class ICW1 : uint8_t {
  IC4 = 0x01,   // ICW4 follows
  SNGL = 0x02,  // no ICW3
  ADI = 0x04,   // MCS-80 only
  LTIM = 0x08,  // replaced by ELCR [PIIX3]
  INIT = 0x10,
};

inline constexpr uint8_t kIcw2Vector = 0xF8;  // T7-T3

enum class ICW4 : uint8_t {
  uPM = 0x01,   // 8086 mode; the MCS-80's CALL is of no use here
  AEOI = 0x02,  // automatic end of interrupt
  M_S = 0x04,
  BUF = 0x08,
  SFNM = 0x10,  // special fully nested mode
};

// OCW1, at the odd port, is the interrupt mask. OCW2 and OCW3 share the even port.
inline constexpr uint8_t kOcw2Level = 0x07;
enum class OCW2 : uint8_t { EOI = 0x20, SL = 0x40, R = 0x80 };
enum class OCW3 : uint8_t {
  RIS = 0x01,
  RR = 0x02,
  P = 0x04,
  SELECT = 0x08,
  SMM = 0x20,
  ESMM = 0x40
};

inline constexpr uint8_t kPollInterrupt = 0x80;  // in the byte that a poll reads

// Which interrupts may be level triggered: not 0, 1, 2, 8 and 13. [PIIX3] ELCR1, ELCR2
inline constexpr uint8_t kElcrMasterMask = 0xF8;
inline constexpr uint8_t kElcrSlaveMask = 0xDE;

}  // namespace vmm::pic8259
