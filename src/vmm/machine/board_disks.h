// A disk of a board.
#pragma once

#include <string>

#include "virtio/virtio_blk.h"
#include "virtio/virtio_pci.h"
#include "vmm/core/block/disk.h"
#include "vmm/core/host/poll_thread.h"
#include "vmm/machine/board_slot.h"

namespace vmm {

// What a board is given of a disk; all outlives it.
struct BoardDisk {
  Disk* disk = nullptr;
  unsigned queues = 1;  // as many as `disk` has
  std::string serial;
  bool read_only = false;
};

struct DiskSlotState {
  static constexpr uint32_t kVersion = 1;
  uint32_t version = kVersion;
  virtio::VirtioBlkState disk;
  virtio::VirtioPciState pci;
};

// A virtio block device, its PCI function and the thread that works its queues.
class DiskSlot final : public BoardSlot {
 public:
  DiskSlot(uint8_t device, size_t index, const BoardDisk& disk,
           const virtio::VirtioDevice::Host& host, const PciEndpoint::Socket& socket);
  ~DiskSlot() override;

  virtio::VirtioPci& function() override { return pci_; }
  void Save(Sections& out) override;
  Result<void> Load(Sections& in) override;

  // Of the section.
  Result<void> Load(const DiskSlotState& state);

 private:
  virtio::VirtioBlk blk_;
  virtio::VirtioPci pci_;
  PollThread thread_;
};

}  // namespace vmm
