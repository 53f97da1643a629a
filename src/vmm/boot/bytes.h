// Little-endian numbers at byte offsets, for the headers that files and kernels exchange.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>

#include "vmm/core/base/check.h"

namespace vmm {

template <class Int>
Int Get(std::span<const uint8_t> bytes, uint64_t offset) {
  CHECK(offset <= bytes.size() && sizeof(Int) <= bytes.size() - offset);
  Int value;
  std::memcpy(&value, bytes.data() + offset, sizeof(value));
  return value;
}

template <class Int>
void Put(std::span<uint8_t> bytes, uint64_t offset, Int value) {
  CHECK(offset <= bytes.size() && sizeof(Int) <= bytes.size() - offset);
  std::memcpy(bytes.data() + offset, &value, sizeof(value));
}

constexpr uint64_t AlignUp(uint64_t value, uint64_t alignment) {
  return (value + alignment - 1) & ~(alignment - 1);
}
constexpr bool IsPowerOfTwo(uint64_t value) {
  return value != 0 && (value & (value - 1)) == 0;
}

}  // namespace vmm
