// A network card of a board.
#pragma once

#include "virtio/virtio_net.h"
#include "virtio/virtio_pci.h"
#include "vmm/core/host/poll_thread.h"
#include "vmm/core/net/net_backend.h"
#include "vmm/machine/board_slot.h"

namespace vmm {

// What a board is given of a card; the back end outlives it.
struct BoardNet {
  NetBackend* backend = nullptr;
  virtio::MacAddress mac{};
  uint16_t mtu = 0;  // 0: the guest is told none
};

struct NetSlotState {
  static constexpr uint32_t kVersion = 2;
  uint32_t version = kVersion;
  virtio::VirtioNetState net;
  virtio::VirtioPciState pci;
};

// A virtio network card, its PCI function and the thread that moves its frames.
class NetSlot final : public BoardSlot {
 public:
  NetSlot(uint8_t device, size_t index, const BoardNet& net, const virtio::VirtioDevice::Host& host,
          const PciEndpoint::Socket& socket);
  ~NetSlot() override;

  virtio::VirtioPci& function() override { return pci_; }
  void Save(Sections& out) override;
  Result<void> Load(Sections& in) override;

  virtio::VirtioNet& net() { return net_; }
  const virtio::VirtioNet& net() const { return net_; }

  // Of the section.
  Result<void> Load(const NetSlotState& state);

 private:
  virtio::VirtioNet net_;
  virtio::VirtioPci pci_;
  PollThread thread_;
};

}  // namespace vmm
