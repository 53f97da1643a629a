#include "vmm/core/share/id_map.h"

#include <algorithm>

namespace vmm {

uint32_t IdMap::ToGuest(uint32_t host) const {
  for (const IdRange& range : ranges_) {
    if (host - range.host < range.count) return range.guest + (host - range.host);
  }
  return kNobody;
}

std::optional<uint32_t> IdMap::ToHost(uint32_t guest) const {
  for (const IdRange& range : ranges_) {
    if (guest - range.guest < range.count) return range.host + (guest - range.guest);
  }
  return {};
}

bool IdMap::IsOnly(uint32_t host) const {
  return std::ranges::all_of(
      ranges_, [&](const IdRange& range) { return range.host == host && range.count == 1; });
}

}  // namespace vmm
