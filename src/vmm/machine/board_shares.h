// A shared directory of a board.
#pragma once

#include <string>

#include "virtio/virtio_fs.h"
#include "virtio/virtio_pci.h"
#include "vmm/core/host/work_crew.h"
#include "vmm/core/share/share_server.h"
#include "vmm/machine/board_slot.h"

namespace vmm {

// What a board is given of a directory; the server outlives it.
struct BoardShare {
  ShareServer* server = nullptr;
  std::string tag;
  unsigned queues = 1;
};

struct ShareSlotState {
  static constexpr uint32_t kVersion = 1;
  uint32_t version = kVersion;
  virtio::VirtioFsState share;
  virtio::VirtioPciState pci;
  uint32_t session_pieces = 0;  // sections with what the guest knows of the files
};

// A virtio file system device, its PCI function and the threads that serve its requests.
class ShareSlot final : public BoardSlot {
 public:
  // Function `index` of the device that the shared directories are.
  ShareSlot(size_t index, const BoardShare& share, const virtio::VirtioDevice::Host& host,
            const PciEndpoint::Socket& socket);
  ~ShareSlot() override;

  virtio::VirtioPci& function() override { return pci_; }
  void Save(Sections& out) override;
  Result<void> Load(Sections& in) override;

  // Of the section.
  Result<void> Load(const ShareSlotState& state);

 private:
  std::string PieceName(size_t index);

  ShareServer& server_;
  size_t pieces_to_load_ = 0;
  virtio::VirtioFs fs_;
  virtio::VirtioPci pci_;
  WorkCrew threads_;
};

}  // namespace vmm
