// The network card's numbers. [VIRTIO 1.2] 5.1
#pragma once

#include <cstdint>

namespace virtio::net {

inline constexpr uint16_t kType = 1;

// 5.1.2
enum Queue : unsigned { kReceive = 0, kTransmit = 1, kControl = 2, kQueues = 3 };

// 5.1.3
enum class Feature : uint64_t {
  CSUM = uint64_t{1} << 0,
  GUEST_CSUM = uint64_t{1} << 1,
  MTU = uint64_t{1} << 3,
  MAC = uint64_t{1} << 5,
  GUEST_TSO4 = uint64_t{1} << 7,
  GUEST_TSO6 = uint64_t{1} << 8,
  HOST_TSO4 = uint64_t{1} << 11,
  HOST_TSO6 = uint64_t{1} << 12,
  MRG_RXBUF = uint64_t{1} << 15,
  STATUS = uint64_t{1} << 16,
  CTRL_VQ = uint64_t{1} << 17,
  CTRL_RX = uint64_t{1} << 18,
  GUEST_ANNOUNCE = uint64_t{1} << 21,
  CTRL_MAC_ADDR = uint64_t{1} << 23,
};

// struct virtio_net_config. 5.1.4
enum class Config : uint16_t {
  mac = 0x00,     // 6 bytes
  status = 0x06,  // 16 bits
  max_virtqueue_pairs = 0x08,
  mtu = 0x0A,  // 16 bits
};
inline constexpr uint64_t kConfigSize = 0x0C;
enum class LinkStatus : uint16_t { LINK_UP = 1, ANNOUNCE = 2 };

// Commands of the control queue: class, command, data; then the device's answer. 5.1.6.5
enum class Class : uint8_t { RX = 0, MAC = 1, ANNOUNCE = 3 };
inline constexpr uint8_t kRxModesOfCtrlRx = 2;  // PROMISC, ALLMULTI
inline constexpr uint8_t kMacTableSet = 0, kMacAddrSet = 1, kAnnounceAck = 0;
inline constexpr uint8_t kOk = 0, kError = 1;
inline constexpr uint64_t kCommandSize = 2;

}  // namespace virtio::net
