#include "legacy-devices/debug_exit.h"

#include <algorithm>

#include "vmm/core/base/bytes.h"

namespace legacy {

void DebugExit::Read(uint64_t, std::span<uint8_t> data) {
  std::fill(data.begin(), data.end(), uint8_t{0});
}

void DebugExit::Write(uint64_t offset, std::span<const uint8_t> data) {
  if (offset == 0) exit_(static_cast<uint32_t>(vmm::LoadLittleEndian(data)));
}

}  // namespace legacy
