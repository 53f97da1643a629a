// Starts without a kernel: a boot sector in real mode, and a raw ROM image from the reset vector.
#pragma once

#include <cstdint>
#include <filesystem>

#include "vmm/core/base/result.h"
#include "vmm/core/memory/guest_memory.h"
#include "vmm/core/state/cpu_state.h"

namespace vmm {

// Puts the image at 0x7C00, as much of it as fits below 639 KiB, and the services of
// real_mode_services.h where a BIOS would be. The CPU starts at 0000:7C00 with interrupts off, SP
// below the image, and in DL the drive that a BIOS would have read it from: 0x80 for an image
// larger than a floppy disk. kConfigInvalid without the signature 0xAA55 at its place.
Result<void> LoadBootSector(const std::filesystem::path& path, GuestMemory& memory,
                            CpuState& boot_cpu);

// Size of a ROM image in bytes: 64 KiB to 16 MiB, a multiple of 4 KiB, or kConfigInvalid.
Result<uint64_t> RomImageSize(const std::filesystem::path& path);
// Reads it into `memory`'s ROM, which has that size.
Result<void> LoadRomImage(const std::filesystem::path& path, GuestMemory& memory);
// Copies the last 128 KiB of the ROM, or all of a smaller one, to below 1 MiB, into RAM: what the
// chip set's shadowing does for firmware is done already. A CPU after reset then starts in the ROM.
void ShadowRom(GuestMemory& memory);

}  // namespace vmm
