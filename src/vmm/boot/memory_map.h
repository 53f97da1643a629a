// The guest's physical memory map, as every boot protocol hands it over.
#pragma once

#include <cstdint>
#include <vector>

#include "vmm/core/base/types.h"
#include "vmm/core/memory/guest_memory.h"

namespace vmm {

// Numbered as the INT 15h E820h interface, Multiboot and PVH all number them. [ACPI] 15
enum class MemoryType : uint32_t { kRam = 1, kReserved = 2, kAcpiReclaimable = 3, kAcpiNvs = 4 };

struct MemoryMapEntry {
  GuestPhys start;
  uint64_t size = 0;  // bytes
  MemoryType type = MemoryType::kRam;
  friend bool operator==(const MemoryMapEntry&, const MemoryMapEntry&) = default;
};

// The first page holds the real-mode vectors and the BIOS data area; no image is loaded there.
inline constexpr GuestPhys kBiosDataEnd{0x1000};
// Conventional memory ends where the extended BIOS data area starts: 639 KiB.
inline constexpr GuestPhys kEbdaStart{0x9fc00};
// ACPI tables lie here, where guests without a pointer to them search. [ACPI] 5.2.5.1
inline constexpr GuestPhys kBiosAreaStart{0xe0000};
inline constexpr GuestPhys kHighMemoryStart{0x100000};

// In address order, without overlaps.
std::vector<MemoryMapEntry> BuildMemoryMap(const GuestMemory& memory);

}  // namespace vmm
