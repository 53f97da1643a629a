// The file system device's numbers. [VIRTIO 1.2] 5.11
#pragma once

#include <cstddef>
#include <cstdint>

namespace virtio::fs {

inline constexpr uint16_t kType = 26;

// 5.11.2, without the notification queue, which there is only with its feature
inline constexpr unsigned kHighPriority = 0;
inline constexpr unsigned kFirstRequest = 1;

// struct virtio_fs_config. 5.11.4
enum class Config : uint16_t {
  tag = 0x00,                 // 36 bytes, the rest zero
  num_request_queues = 0x24,  // 32 bits
};
inline constexpr size_t kTagSize = 36;
inline constexpr uint64_t kConfigSize = 0x28;

}  // namespace virtio::fs
