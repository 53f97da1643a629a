// What a guest that starts in real mode finds where a BIOS would be: interrupt vectors and the few
// services of firmware/real_mode/services.asm, among them the memory map.
#pragma once

#include <cstdint>
#include <span>

#include "vmm/core/memory/guest_memory.h"

namespace vmm {

// 8 KiB for 0xFE000-0xFFFFF, the reset vector at their end.
std::span<const uint8_t> RealModeServicesCode();

// Writes code, memory map, all 256 vectors and the BIOS data area.
void WriteRealModeServices(GuestMemory& memory);

}  // namespace vmm
