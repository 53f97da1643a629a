// A PCI slot of the board with a virtio device in it.
#pragma once

#include <cstdint>
#include <string>

#include "virtio/virtio_pci.h"
#include "vmm/core/base/result.h"
#include "vmm/core/pci/pci_host_bridge.h"

namespace vmm {

class Sections;

// One kind of device derives from it: it has the device, its PCI function and whatever works the
// queues.
class BoardSlot {
 public:
  // Where each kind begins on PCI bus 0: one more of a kind moves nothing else.
  static constexpr uint8_t kFirstDisk = 4;  // up to 16
  static constexpr uint8_t kFirstNic = 20;  // up to 8
  static constexpr uint8_t kConsole = 28;
  static constexpr uint8_t kRng = 29;
  static constexpr uint8_t kShares = 30;  // up to 8, each a function of it

  virtual ~BoardSlot() = default;
  BoardSlot(const BoardSlot&) = delete;
  BoardSlot& operator=(const BoardSlot&) = delete;

  PciSlot place() const { return place_; }
  virtual virtio::VirtioPci& function() = 0;
  const std::string& name() { return device().name(); }

  // Waits until no request is under way; none begins until Resume(). No vCPU runs meanwhile.
  void Pause() { device().Pause(); }
  void Resume() { device().Resume(); }
  // The guest has ended: what it sent and the host has not yet taken goes out, if its readers read.
  virtual void HandOut() {}
  // A terminal of the host may have another size.
  virtual void OnWindowChange() {}
  // While paused.
  void Reset() { function().PowerOnReset(); }
  // All that the guest can see of it, in a section of its name.
  virtual void Save(Sections& out) = 0;
  virtual Result<void> Load(Sections& in) = 0;

 protected:
  explicit BoardSlot(uint8_t device) : place_{device, 0} {}
  explicit BoardSlot(PciSlot place) : place_(place) {}

 private:
  virtio::VirtioDevice& device() { return function().device(); }

  const PciSlot place_;
};

}  // namespace vmm
