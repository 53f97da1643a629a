#include "legacy-devices/debug_console.h"

#include <algorithm>

namespace legacy {

void DebugConsole::Read(uint64_t, std::span<uint8_t> data) {
  std::fill(data.begin(), data.end(), uint8_t{0xE9});
}

void DebugConsole::Write(uint64_t offset, std::span<const uint8_t> data) {
  if (offset == 0 && !data.empty()) backend_.Write(data.first(1));
}

}  // namespace legacy
