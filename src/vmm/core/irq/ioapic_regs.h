// Registers of the I/O APIC. [IOAPIC] 3.0, [ICH9] 13.5 for the EOI register
#pragma once

#include <cstdint>

namespace vmm::ioapic {

enum class Reg : uint16_t { IOREGSEL = 0x00, IOWIN = 0x10, EOI = 0x40 };  // in its page

// Through IOREGSEL and IOWIN.
enum class Index : uint8_t { IOAPICID = 0x00, IOAPICVER = 0x01, IOAPICARB = 0x02, IOREDTBL = 0x10 };

inline constexpr unsigned kPins = 24;
inline constexpr uint32_t kVersion = 0x20 | (kPins - 1) << 16;  // 0x20: has the EOI register
inline constexpr uint32_t kIdMask = 0x0F000000;

// Redirection table entry, low half; the high half has the destination in bits 31:24.
enum class RTE : uint32_t {
  INTVEC = 0xFF,
  DELMOD = 7u << 8,
  DESTMOD = 1u << 11,  // 1 = logical
  DELIVS = 1u << 12,   // read only
  INTPOL = 1u << 13,   // lines are "asserted" or not here: the level of the wire follows from this
  Remote_IRR = 1u << 14,    // read only
  Trigger_Mode = 1u << 15,  // 1 = level
  Interrupt_Mask = 1u << 16,
};
inline constexpr uint32_t kRteWritable = 0x1AFFF;
inline constexpr unsigned kDestinationShift = 56;
inline constexpr uint64_t kRteStored = 0xFF00000000000000 | kRteWritable | 1u << 14;

}  // namespace vmm::ioapic
