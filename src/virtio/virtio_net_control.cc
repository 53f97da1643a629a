// The card's control queue. [VIRTIO 1.2] 5.1.6.5
#include <algorithm>
#include <array>

#include "virtio/virtio_net.h"

namespace virtio {

void VirtioNet::Control() {
  for (unsigned count = 0; count < kControlQueueSize; ++count) {
    if (pauses_ || !Take(net::kControl, chain_)) return;
    if (chain_.readable.length() < net::kCommandSize || chain_.writable.length() == 0) {
      Reject(net::kControl, "a command has no class, or no place for its answer");
      return;
    }
    const uint8_t answer = Execute(chain_.readable);
    chain_.writable.Write(0, {&answer, 1}, writes());
    Return(net::kControl, chain_.head, 1);
  }
  ring_();
}

// The card filters nothing, which every mode of reception allows. 5.1.6.5.1
uint8_t VirtioNet::Execute(const ChainBuffers& command) {
  std::array<uint8_t, net::kCommandSize> header;
  command.Read(0, header);
  const uint64_t length = command.length() - header.size();
  const uint8_t number = header[1];
  switch (static_cast<net::Class>(header[0])) {
    case net::Class::RX:
      return number < net::kRxModesOfCtrlRx && length == 1 ? net::kOk : net::kError;
    case net::Class::MAC:
      if (number == net::kMacTableSet) return net::kOk;
      if (number == net::kMacAddrSet && length == sizeof(MacAddress)) {
        MacAddress mac;
        command.Read(header.size(), mac);
        const std::lock_guard lock(config_mutex_);
        mac_ = mac;
        return net::kOk;
      }
      return net::kError;
    case net::Class::ANNOUNCE: {
      if (number != net::kAnnounceAck) return net::kError;
      const std::lock_guard lock(config_mutex_);
      announce_ = false;
      return net::kOk;
    }
  }
  return net::kError;
}

}  // namespace virtio
