#include "vmm/boot/boot_sector.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <span>

#include "vmm/boot/boot_cpu.h"
#include "vmm/boot/boot_file.h"
#include "vmm/boot/memory_map.h"
#include "vmm/boot/real_mode_services.h"
#include "vmm/core/base/check.h"

namespace vmm {
namespace {

constexpr uint64_t kLoadAddress = 0x7C00, kSectorSize = 512;
constexpr uint64_t kLargestFloppy = 2880 * kKiB;
constexpr uint8_t kFirstFloppy = 0x00, kFirstHardDisk = 0x80;

constexpr uint64_t kSmallestRom = 64 * kKiB, kLargestRom = 16 * kMiB, kShadowed = 128 * kKiB;

}  // namespace

Result<void> LoadBootSector(const std::filesystem::path& path, GuestMemory& memory,
                            CpuState& boot_cpu) {
  auto file = BootFile::Open("boot sector", path);
  if (!file) return tl::unexpected(file.error());
  if (file->size() < kSectorSize) {
    return file->Invalid(fmt::format("has {} bytes; a boot sector has 512", file->size()));
  }
  const uint64_t size = std::min(file->size(), kEbdaStart.value - kLoadAddress);
  uint8_t* place = memory.Ram(GuestPhys(kLoadAddress), size);
  CHECK(place != nullptr);
  if (auto read = file->Read(0, {place, size}); !read) return tl::unexpected(read.error());
  if (place[kSectorSize - 2] != 0x55 || place[kSectorSize - 1] != 0xAA) {
    return file->Invalid("has no boot signature (0x55 0xAA at byte 510)");
  }
  WriteRealModeServices(memory);
  EnterReal16(boot_cpu, 0, kLoadAddress, kLoadAddress);
  boot_cpu.gpr[static_cast<size_t>(Gpr::RDX)] =
      file->size() > kLargestFloppy ? kFirstHardDisk : kFirstFloppy;
  ApplyFirmwareCpuState(boot_cpu, true);
  return {};
}

Result<uint64_t> RomImageSize(const std::filesystem::path& path) {
  auto file = BootFile::Open("firmware", path);
  if (!file) return tl::unexpected(file.error());
  if (file->size() < kSmallestRom || file->size() > kLargestRom || file->size() % kPageSize != 0) {
    return file->Invalid(fmt::format(
        "has {} bytes; a ROM image has 64 KiB to 16 MiB, a multiple of 4 KiB", file->size()));
  }
  return file->size();
}

Result<void> LoadRomImage(const std::filesystem::path& path, GuestMemory& memory) {
  auto file = BootFile::Open("firmware", path);
  if (!file) return tl::unexpected(file.error());
  const RamRegion* rom = memory.rom();
  CHECK(rom != nullptr);
  if (file->size() != rom->size) return file->Invalid("changed its size while it was read");
  return file->Read(0, {rom->host, rom->size});
}

void ShadowRom(GuestMemory& memory) {
  const RamRegion* rom = memory.rom();
  CHECK(rom != nullptr);
  const uint64_t size = std::min(rom->size, kShadowed);
  CHECK(
      memory.Write(GuestPhys(kHighMemoryStart.value - size), {rom->host + rom->size - size, size}));
}

}  // namespace vmm
