// Frames in a stream between two processes: the length in 4 bytes, big endian, then the frame. It
// is what QEMU's stream sockets and passt speak.
#pragma once

#include <cstddef>
#include <cstdint>

namespace vmm::net_stream {

inline constexpr size_t kPrefix = 4;             // bytes
inline constexpr size_t kMaxFrame = 65535 + 22;  // bytes; what is longer breaks the stream

inline void StoreLength(uint8_t* at, size_t length) {
  for (int i = 0; i < 4; ++i) at[i] = static_cast<uint8_t>(length >> (8 * (3 - i)));
}
inline size_t LoadLength(const uint8_t* at) {
  return size_t{at[0]} << 24 | size_t{at[1]} << 16 | size_t{at[2]} << 8 | at[3];
}

}  // namespace vmm::net_stream
