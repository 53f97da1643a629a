// The console device of a board.
#pragma once

#include <vector>

#include "virtio/virtio_console.h"
#include "virtio/virtio_pci.h"
#include "vmm/core/host/work_thread.h"
#include "vmm/machine/board_slot.h"

namespace vmm {

using BoardPort = virtio::VirtioConsole::Port;

struct ConsoleSlotState {
  static constexpr uint32_t kVersion = 1;
  uint32_t version = kVersion;
  virtio::VirtioConsoleState console;
  virtio::VirtioPciState pci;
};

// A virtio console, its PCI function and the thread that works its queues.
class ConsoleSlot final : public BoardSlot {
 public:
  ConsoleSlot(const std::vector<BoardPort>& ports, const virtio::VirtioDevice::Host& host,
              const PciEndpoint::Socket& socket);
  ~ConsoleSlot() override;

  virtio::VirtioPci& function() override { return pci_; }
  void Save(Sections& out) override;
  Result<void> Load(Sections& in) override;
  void HandOut() override;
  void OnWindowChange() override { console_.OnWindowChange(); }

  // Of the section.
  Result<void> Load(const ConsoleSlotState& state);

 private:
  virtio::VirtioConsole console_;
  virtio::VirtioPci pci_;
  WorkThread thread_;
};

}  // namespace vmm
