#include "vmm/core/block/io_buffers.h"

#include <algorithm>
#include <cstring>

#include "vmm/core/base/check.h"

namespace vmm {

uint64_t TotalLength(IoBuffers buffers) {
  uint64_t length = 0;
  for (const iovec& buffer : buffers) length += buffer.iov_len;
  return length;
}

std::vector<iovec> Slice(IoBuffers buffers, uint64_t skip, uint64_t length) {
  std::vector<iovec> slice;
  for (const iovec& buffer : buffers) {
    if (length == 0) break;
    if (skip >= buffer.iov_len) {
      skip -= buffer.iov_len;
      continue;
    }
    const uint64_t part = std::min<uint64_t>(buffer.iov_len - skip, length);
    slice.push_back({static_cast<uint8_t*>(buffer.iov_base) + skip, part});
    length -= part;
    skip = 0;
  }
  CHECK(length == 0);
  return slice;
}

void FillZero(IoBuffers buffers) {
  for (const iovec& buffer : buffers) {
    if (buffer.iov_len != 0) std::memset(buffer.iov_base, 0, buffer.iov_len);
  }
}

void CopyInto(IoBuffers buffers, std::span<const uint8_t> bytes) {
  for (const iovec& buffer : buffers) {
    CHECK(buffer.iov_len <= bytes.size());
    if (buffer.iov_len != 0) std::memcpy(buffer.iov_base, bytes.data(), buffer.iov_len);
    bytes = bytes.subspan(buffer.iov_len);
  }
}

std::vector<uint8_t> CopyOf(IoBuffers buffers) {
  std::vector<uint8_t> bytes;
  bytes.reserve(TotalLength(buffers));
  for (const iovec& buffer : buffers) {
    const auto* start = static_cast<const uint8_t*>(buffer.iov_base);
    bytes.insert(bytes.end(), start, start + buffer.iov_len);
  }
  return bytes;
}

bool IsZero(std::span<const uint8_t> bytes) {
  return bytes.empty() ||
         (bytes[0] == 0 && std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

}  // namespace vmm
