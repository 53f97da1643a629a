#include "vmm/boot/memory_map.h"

#include <algorithm>

namespace vmm {
namespace {

// Above the local APICs: room that KVM needs for its own pages on old processors, and the ROM that
// a processor starts from. Nobody may put a PCI window there.
constexpr MemoryMapEntry kTopOfFourGiB{GuestPhys(0xfeffc000), 0x100000000 - 0xfeffc000,
                                       MemoryType::kReserved};

}  // namespace

std::vector<MemoryMapEntry> BuildMemoryMap(const GuestMemory& memory) {
  std::vector<MemoryMapEntry> map;
  for (const RamRegion& region : memory.regions()) {
    const uint64_t start = region.start.value;
    const uint64_t end = start + region.size;
    if (start != 0) {
      map.push_back({region.start, region.size, MemoryType::kRam});
      continue;
    }
    const GuestPhys bios = kBiosAreaStart;
    const GuestPhys high = kHighMemoryStart;
    map.push_back({GuestPhys(0), kEbdaStart.value, MemoryType::kRam});
    map.push_back({kEbdaStart, 0xa0000 - kEbdaStart.value, MemoryType::kReserved});
    map.push_back({bios, high - bios, MemoryType::kReserved});
    if (end > high.value) map.push_back({high, end - high.value, MemoryType::kRam});
  }
  map.push_back(kTopOfFourGiB);
  std::sort(map.begin(), map.end(),
            [](const MemoryMapEntry& a, const MemoryMapEntry& b) { return a.start < b.start; });
  return map;
}

}  // namespace vmm
