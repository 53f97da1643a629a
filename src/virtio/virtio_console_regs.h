// Numbers of the console device. [VIRTIO 1.2] 5.3
#pragma once

#include <cstdint>

namespace virtio::console {

inline constexpr uint16_t kType = 3;  // 5

// Queues: those of port 0, the two of control messages, then a pair for each further port. 5.3.2
inline constexpr unsigned kControlReceive = 2, kControlTransmit = 3;
constexpr unsigned ReceiveQueue(unsigned port) {
  return port == 0 ? 0 : 2 + 2 * port;
}
constexpr unsigned TransmitQueue(unsigned port) {
  return ReceiveQueue(port) + 1;
}

enum class Feature : uint64_t {  // 5.3.3
  SIZE = 1 << 0,
  MULTIPORT = 1 << 1,
};

enum class Config : uint8_t { cols = 0, rows = 2, max_nr_ports = 4, emerg_wr = 8 };  // 5.3.4
inline constexpr unsigned kConfigSize = 12;

enum class Event : uint16_t {  // 5.3.6.2
  DEVICE_READY = 0,
  PORT_ADD = 1,
  PORT_REMOVE = 2,
  PORT_READY = 3,
  CONSOLE_PORT = 4,
  RESIZE = 5,
  PORT_OPEN = 6,
  PORT_NAME = 7,
};

struct Control {  // 5.3.6.2
  uint32_t id;
  uint16_t event;
  uint16_t value;
};
struct Resize {
  uint16_t cols;
  uint16_t rows;
};
static_assert(sizeof(Control) == 8 && sizeof(Resize) == 4);

}  // namespace virtio::console
