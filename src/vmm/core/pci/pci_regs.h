// Configuration space header, type 0. [PCI] 6.1, 6.2
#pragma once

#include <cstdint>

namespace vmm::pci {

inline constexpr uint16_t kConfigSize = 256;

// Byte offsets.
enum Offset : uint16_t {
  kVendorId = 0x00,  // 16 bits
  kDeviceId = 0x02,  // 16 bits
  kCommand = 0x04,   // 16 bits
  kStatus = 0x06,    // 16 bits, a 1 clears
  kRevisionId = 0x08,
  kClassCode = 0x09,  // 24 bits: programming interface, subclass, base class
  kCacheLineSize = 0x0C,
  kLatencyTimer = 0x0D,
  kHeaderType = 0x0E,
  kSubsystemVendorId = 0x2C,  // 16 bits
  kSubsystemId = 0x2E,        // 16 bits
  kInterruptLine = 0x3C,
  kInterruptPin = 0x3D,
};

enum class Command : uint16_t {
  IoSpace = 0x0001,
  MemorySpace = 0x0002,
  BusMaster = 0x0004,
  Serr = 0x0100,
  InterruptDisable = 0x0400,
};

enum class Status : uint16_t {
  FastBackToBack = 0x0080,
  DevselMedium = 0x0200,
};
inline constexpr uint16_t kStatusErrors = 0xF900;  // parity, abort and system errors

inline constexpr uint8_t kMultiFunction = 0x80;  // in kHeaderType of function 0

}  // namespace vmm::pci
