// Little-endian numbers in byte spans of 1 to 8 bytes, as bus accesses carry them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace vmm {

constexpr uint64_t LoadLittleEndian(std::span<const uint8_t> data) {
  uint64_t value = 0;
  for (size_t i = 0; i < data.size(); ++i) value |= uint64_t{data[i]} << (8 * i);
  return value;
}

// The bytes of `value` that fit; the rest of a longer span becomes zero.
constexpr void StoreLittleEndian(std::span<uint8_t> data, uint64_t value) {
  for (size_t i = 0; i < data.size(); ++i)
    data[i] = i < 8 ? static_cast<uint8_t>(value >> (8 * i)) : 0;
}

// Byte `index` of a register, and the register with that byte replaced.
template <class T>
constexpr uint8_t ByteOf(T value, uint64_t index) {
  return static_cast<uint8_t>(value >> (8 * index));
}
template <class T>
constexpr T WithByte(T value, uint64_t index, uint8_t byte) {
  const T mask = static_cast<T>(T{0xFF} << (8 * index));
  return static_cast<T>((value & ~mask) | static_cast<T>(T{byte} << (8 * index)));
}

}  // namespace vmm
