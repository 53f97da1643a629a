// The disks of a board, each in a PCI slot.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "virtio/virtio_blk.h"
#include "virtio/virtio_pci.h"
#include "vmm/core/block/disk.h"
#include "vmm/core/host/work_thread.h"
#include "vmm/core/memory/guest_memory.h"
#include "vmm/core/memory/host_write_listener.h"
#include "vmm/core/pci/pci_endpoint.h"
#include "vmm/core/pci/pci_host_bridge.h"

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
class DiskSlot {
 public:
  static constexpr uint8_t kFirstDevice = 4;  // on PCI bus 0; before it is room for other kinds
  static constexpr PciSlot SlotOf(size_t index) {
    return {static_cast<uint8_t>(kFirstDevice + index), 0};
  }

  DiskSlot(std::string name, const BoardDisk& disk, const virtio::VirtioDevice::Host& host,
           const PciEndpoint::Socket& socket);
  ~DiskSlot();
  DiskSlot(const DiskSlot&) = delete;
  DiskSlot& operator=(const DiskSlot&) = delete;

  const std::string& name() const { return blk_.name(); }
  virtio::VirtioPci& function() { return pci_; }

  // Waits until no request is under way; none begins until Resume(). No vCPU runs meanwhile.
  void Pause() { blk_.Pause(); }
  void Resume() { blk_.Resume(); }
  // While paused.
  void Reset() { pci_.PowerOnReset(); }
  DiskSlotState Save() const;
  Result<void> Load(const DiskSlotState& state);

 private:
  virtio::VirtioBlk blk_;
  virtio::VirtioPci pci_;
  WorkThread thread_;
};

}  // namespace vmm
