// What stands before a frame between the guest, its network card and a tap: how far its checksum
// and its segmentation were left to whoever takes it. [VIRTIO 1.2] 5.1.6, struct virtio_net_hdr
#pragma once

#include <cstdint>

namespace vmm {

struct NetHeader {
  // flags
  static constexpr uint8_t kNeedsChecksum = 1, kDataValid = 2;
  // gso_type
  static constexpr uint8_t kNone = 0, kTcp4 = 1, kUdp = 3, kTcp6 = 4, kEcn = 0x80;

  uint8_t flags = 0;
  uint8_t gso_type = kNone;
  uint16_t hdr_len = 0;      // bytes of the frame's headers, a hint
  uint16_t gso_size = 0;     // bytes of payload in a segment
  uint16_t csum_start = 0;   // from where on the checksum counts
  uint16_t csum_offset = 0;  // from there to the checksum's place, which holds the pseudo header's
  uint16_t num_buffers = 0;  // to the guest: how many the frame is in

  friend bool operator==(const NetHeader&, const NetHeader&) = default;
};
static_assert(sizeof(NetHeader) == 12);  // as it is laid out, little endian

// What somebody takes instead of whole and finished frames.
struct NetOffloads {
  bool checksum = false;  // kNeedsChecksum
  bool tcp4 = false;      // kTcp4, with kNeedsChecksum
  bool tcp6 = false;      // kTcp6, likewise
  bool any_size = false;  // a finished frame of any size in the place of its segments
  friend bool operator==(const NetOffloads&, const NetOffloads&) = default;
};

}  // namespace vmm
