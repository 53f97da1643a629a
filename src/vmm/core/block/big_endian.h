// Big-endian numbers in bytes, as qcow2 stores them.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

namespace vmm {

template <class T>
T LoadBigEndian(const uint8_t* bytes) {
  static_assert(std::is_unsigned_v<T> && sizeof(T) >= 2);
  T value;
  std::memcpy(&value, bytes, sizeof value);
  if constexpr (sizeof(T) == 2) return __builtin_bswap16(value);
  if constexpr (sizeof(T) == 4) return __builtin_bswap32(value);
  if constexpr (sizeof(T) == 8) return __builtin_bswap64(value);
}

template <class T>
void StoreBigEndian(uint8_t* bytes, T value) {
  static_assert(std::is_unsigned_v<T> && sizeof(T) >= 2);
  if constexpr (sizeof(T) == 2) value = __builtin_bswap16(value);
  if constexpr (sizeof(T) == 4) value = __builtin_bswap32(value);
  if constexpr (sizeof(T) == 8) value = __builtin_bswap64(value);
  std::memcpy(bytes, &value, sizeof value);
}

}  // namespace vmm
