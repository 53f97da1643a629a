#include "legacy-devices/post_port.h"

#include <algorithm>

namespace legacy {

void PostPort::Read(uint64_t offset, std::span<uint8_t> data) {
  std::fill(data.begin(), data.end(), uint8_t{0xFF});
  if (offset == 0 && !data.empty()) data[0] = last_code();
}

void PostPort::Write(uint64_t offset, std::span<const uint8_t> data) {
  if (offset == 0 && !data.empty()) code_.store(data[0], std::memory_order_relaxed);
}

}  // namespace legacy
