#include "vmm/boot/real_mode_services.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "vmm/boot/boot_cpu.h"
#include "vmm/boot/bytes.h"
#include "vmm/boot/memory_map.h"
#include "vmm/core/base/check.h"

namespace vmm {
namespace {

constexpr GuestPhys kPlace{0xFE000};
constexpr uint16_t kSegment = 0xF000, kOffset = 0xE000;  // the same in real mode

// Fixed places in the code, as it says itself.
enum Field : uint64_t {
  kNothing = 0x04,
  kVectors = 0x06,
  kExtendedKib = 0x10,
  kBelow16MKib = 0x12,
  kAbove16M64Kib = 0x14,
  kMapCount = 0x16,
  kMap = 0x18,
};
constexpr size_t kMapMax = 32, kMapEntrySize = 20;
constexpr uint16_t kEndOfVectors = 0xFFFF;

// INT 15h, AX=E820h, E801h and AH=88h. [ACPI] 15.1
void PutMemoryMap(std::span<uint8_t> code, const GuestMemory& memory) {
  const auto map = BuildMemoryMap(memory);
  CHECK(map.size() <= kMapMax);
  Put<uint16_t>(code, kMapCount, static_cast<uint16_t>(map.size()));
  uint64_t offset = kMap;
  for (const MemoryMapEntry& entry : map) {
    Put<uint64_t>(code, offset, entry.start.value);
    Put<uint64_t>(code, offset + 8, entry.size);
    Put<uint32_t>(code, offset + 16, static_cast<uint32_t>(entry.type));
    offset += kMapEntrySize;
  }
  constexpr uint64_t k16MiB = 16 * kMiB;
  const uint64_t low = memory.regions().front().size;
  const uint64_t below_16m = (std::min(low, k16MiB) - kMiB) / kKiB;
  const uint64_t above_16m = low > k16MiB ? (low - k16MiB) / (64 * kKiB) : 0;
  Put<uint16_t>(code, kExtendedKib,
                static_cast<uint16_t>(std::min<uint64_t>((low - kMiB) / kKiB, 0xFFFF)));
  Put<uint16_t>(code, kBelow16MKib, static_cast<uint16_t>(below_16m));
  Put<uint16_t>(code, kAbove16M64Kib, static_cast<uint16_t>(above_16m));
}

void WriteVectors(std::span<const uint8_t> code, GuestMemory& memory) {
  constexpr size_t kCount = 256;
  std::vector<uint8_t> table(kCount * 4);
  const auto set = [&table](size_t vector, uint16_t offset) {
    Put<uint16_t>(table, vector * 4, offset);
    Put<uint16_t>(table, vector * 4 + 2, kSegment);
  };
  for (size_t vector = 0; vector < kCount; ++vector) set(vector, Get<uint16_t>(code, kNothing));
  for (uint64_t at = Get<uint16_t>(code, kVectors) - kOffset;; at += 4) {
    const auto vector = Get<uint16_t>(code, at);
    if (vector == kEndOfVectors) break;
    set(vector, Get<uint16_t>(code, at + 2));
  }
  CHECK(memory.Write(GuestPhys(0), table));
}

// [PC-AT] BIOS data area: serial ports, equipment. There is no display: no columns, no rows.
void WriteDataArea(GuestMemory& memory) {
  std::vector<uint8_t> area(0x100);
  constexpr uint16_t kSerial[] = {0x3F8, 0x2F8, 0x3E8, 0x2E8};
  for (size_t i = 0; i < std::size(kSerial); ++i) Put<uint16_t>(area, 2 * i, kSerial[i]);
  constexpr uint16_t kFpu = 0x0002, kMouse = 0x0004, k80Columns = 0x0020, kFourSerial = 4 << 9;
  Put<uint16_t>(area, 0x10, kFpu | kMouse | k80Columns | kFourSerial);
  CHECK(memory.Write(GuestPhys(0x400), area));
  WriteBiosDataArea(memory);
}

}  // namespace

void WriteRealModeServices(GuestMemory& memory) {
  const std::span<const uint8_t> made = RealModeServicesCode();
  std::vector<uint8_t> code(made.begin(), made.end());
  PutMemoryMap(code, memory);
  CHECK(memory.Write(kPlace, code));
  WriteVectors(code, memory);
  WriteDataArea(memory);
}

}  // namespace vmm
