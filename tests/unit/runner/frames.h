// What the init of `vmm test` would send.
#pragma once

#include <cstring>
#include <string_view>
#include <vector>

#include "vmm/core/protocol/test_channel.h"

namespace vmm::test {

using Bytes = std::vector<uint8_t>;

inline Bytes Frame(test_channel::Type type, std::string_view payload, uint32_t number) {
  Bytes frame(test_channel::kHeader + payload.size());
  if (!payload.empty()) std::memcpy(&frame[test_channel::kHeader], payload.data(), payload.size());
  test_channel::Seal(frame.data(), type, payload.size(), number);
  return frame;
}

inline Bytes operator+(Bytes left, const Bytes& right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

}  // namespace vmm::test
