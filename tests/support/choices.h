// Numbers that a test acts by: the bytes of an input, or any without end.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>

#include "vmm/core/base/bytes.h"

namespace vmm {

class Choices {
 public:
  // Zeros behind its end.
  explicit Choices(std::span<const uint8_t> bytes) : bytes_(bytes) {}
  // The same for the same seed.
  explicit Choices(uint64_t seed) : random_(seed * 2 + 1) {}

  bool empty() const { return random_ == 0 && bytes_.empty(); }
  // Of `size` bytes, at most 8.
  uint64_t Take(unsigned size) {
    if (random_ != 0) return size == 8 ? Next() : Next() >> (64 - 8 * size);
    std::array<uint8_t, 8> value{};
    const size_t part = std::min<size_t>(size, bytes_.size());
    std::copy_n(bytes_.begin(), part, value.begin());
    bytes_ = bytes_.subspan(part);
    return LoadLittleEndian(value);
  }
  uint64_t Below(uint64_t bound) { return Take(bound <= 256 ? 1 : 4) % bound; }
  bool OneIn(unsigned count) { return Below(count) == 0; }
  template <class T, size_t count>
  T OneOf(const std::array<T, count>& values) {
    return values[Below(count)];
  }

 private:
  uint64_t Next() {  // xorshift64*
    random_ ^= random_ >> 12;
    random_ ^= random_ << 25;
    random_ ^= random_ >> 27;
    return random_ * 0x2545F4914F6CDD1DULL;
  }

  std::span<const uint8_t> bytes_;
  uint64_t random_ = 0;  // 0: by the bytes
};

}  // namespace vmm
