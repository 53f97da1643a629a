// Where base address registers stand before any driver has moved them, as a BIOS would have put
// them: a guest that starts without one finds its devices.
#pragma once

#include <cstdint>

#include "vmm/core/base/types.h"

namespace vmm {

// Within the windows of the host bridge that firmware/acpi/dsdt.asl tells.
class PciAddressPlan {
 public:
  static constexpr uint64_t kFirstMemory = 0xC0000000;
  static constexpr uint64_t kMemoryEnd = 0xFEBF0000;
  static constexpr uint32_t kFirstPort = 0xC000;
  static constexpr uint32_t kPortEnd = 0x10000;

  // `size` is a power of two. 0: there is no room left.
  uint64_t TakeMemory(uint64_t size) { return Take(next_memory_, size, kMemoryEnd); }
  uint64_t TakePorts(uint64_t size) { return Take(next_port_, size, kPortEnd); }

 private:
  static uint64_t Take(uint64_t& next, uint64_t size, uint64_t end) {
    const uint64_t start = (next + size - 1) & ~(size - 1);
    if (start > end || size > end - start) return 0;
    next = start + size;
    return start;
  }

  uint64_t next_memory_ = kFirstMemory;
  uint64_t next_port_ = kFirstPort;
};

}  // namespace vmm
