#include "legacy-devices/pvpanic.h"

#include <algorithm>

namespace legacy {

void PvPanic::Read(uint64_t offset, std::span<uint8_t> data) {
  std::fill(data.begin(), data.end(), uint8_t{0xFF});
  if (offset == 0 && !data.empty()) data[0] = kSupported.raw();
}

void PvPanic::Write(uint64_t offset, std::span<const uint8_t> data) {
  if (offset != 0 || data.empty()) return;
  const Events events(data[0] & kSupported.raw());
  if (events.raw() != 0) report_(events);
}

}  // namespace legacy
