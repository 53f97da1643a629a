// The entropy device of a board.
#pragma once

#include "virtio/virtio_pci.h"
#include "virtio/virtio_rng.h"
#include "vmm/core/host/work_thread.h"
#include "vmm/machine/board_slot.h"

namespace vmm {

struct RngSlotState {
  static constexpr uint32_t kVersion = 1;
  uint32_t version = kVersion;
  virtio::VirtioPciState pci;
};

// A virtio entropy device, its PCI function and the thread that works its queue.
class RngSlot final : public BoardSlot {
 public:
  RngSlot(const virtio::VirtioDevice::Host& host, const PciEndpoint::Socket& socket);
  ~RngSlot() override;

  virtio::VirtioPci& function() override { return pci_; }
  void Save(Sections& out) override;
  Result<void> Load(Sections& in) override;

  // Of the section.
  Result<void> Load(const RngSlotState& state);

 private:
  virtio::VirtioRng rng_;
  virtio::VirtioPci pci_;
  WorkThread thread_;
};

}  // namespace vmm
