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
  kBar0 = 0x10,               // 32 bits each, six of them
  kSubsystemVendorId = 0x2C,  // 16 bits
  kSubsystemId = 0x2E,        // 16 bits
  kCapabilities = 0x34,       // where the list begins
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
  InterruptStatus = 0x0008,  // the pin is asserted, or would be if it were not disabled
  CapabilitiesList = 0x0010,
  FastBackToBack = 0x0080,
  DevselMedium = 0x0200,
};
inline constexpr uint16_t kStatusErrors = 0xF900;  // parity, abort and system errors

inline constexpr uint8_t kMultiFunction = 0x80;  // in kHeaderType of function 0

// Base address registers. [PCI] 6.2.5.1
inline constexpr unsigned kBars = 6;
enum class Bar : uint32_t {
  Io = 0x1,
  Memory64 = 0x4,  // the next register has the upper half
  Prefetchable = 0x8,
};
inline constexpr uint32_t kMemoryBarBase = 0xFFFF'FFF0;
inline constexpr uint32_t kIoBarBase = 0x0000'FFFC;

// [PCI] 6.7, appendix H. The first two bytes of each: its kind, where the next one is.
enum class Capability : uint8_t { Msi = 0x05, Vendor = 0x09, Msix = 0x11 };
inline constexpr uint16_t kFirstCapability = 0x40;

// Offsets and bits of the MSI capability with 64-bit address and masks. [PCI] 6.8.1
namespace msi {
enum Offset : uint16_t {
  kControl = 0x02,  // 16 bits
  kAddress = 0x04,
  kUpperAddress = 0x08,
  kData = 0x0C,  // 16 bits
  kMask = 0x10,
  kPending = 0x14,
  kSize = 0x18,
};
enum class Control : uint16_t { Enable = 0x0001, Address64 = 0x0080, Masks = 0x0100 };
inline constexpr unsigned kCapableShift = 1, kEnabledShift = 4;  // log2 of the vectors
inline constexpr uint16_t kEnabledMask = 0x7 << kEnabledShift;
inline constexpr unsigned kMaxVectors = 32;
}  // namespace msi

// Of the MSI-X capability, and its table. [PCI] 6.8.2
namespace msix {
enum Offset : uint16_t {
  kControl = 0x02,  // 16 bits; the low 11: vectors - 1
  kTable = 0x04,    // offset, and in the low 3 bits the BAR
  kPending = 0x08,
  kSize = 0x0C,
};
enum class Control : uint16_t { FunctionMask = 0x4000, Enable = 0x8000 };
inline constexpr uint64_t kEntrySize = 16;  // address, upper address, data, vector control
inline constexpr uint32_t kEntryMasked = 0x1;
}  // namespace msix

}  // namespace vmm::pci
