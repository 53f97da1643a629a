// A virtio device in a PCI slot, by the modern interface. [VIRTIO 1.2] 4.1
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "virtio/virtio_device.h"
#include "vmm/core/bus/device_part.h"
#include "vmm/core/pci/pci_endpoint.h"

namespace virtio {

struct VirtioPciState {
  static constexpr uint32_t kVersion = 1;
  uint32_t version = kVersion;
  vmm::PciEndpointState endpoint;
  VirtioDeviceState device;
  uint8_t isr = 0;
  uint32_t device_feature_select = 0, driver_feature_select = 0;
  uint16_t queue_select = 0;
  uint16_t config_vector = pci::kNoVector;
  std::array<uint16_t, VirtioDevice::kMaxQueues> queue_vectors{};
  friend bool operator==(const VirtioPciState&, const VirtioPciState&) = default;
};

// BAR 0 has the registers, BAR 2 the tables of MSI-X: a vector a queue, and one for changes of the
// configuration.
//
// Threads: any. Lock ranks: PciFunction::mutex_, then mutex_, then the device's.
class VirtioPci final : public vmm::PciEndpoint, private VirtioDevice::Transport {
 public:
  // Where the parts are in BAR 0.
  static constexpr uint32_t kCommon = 0x0000, kIsr = 0x1000, kDevice = 0x2000, kNotify = 0x3000;
  static constexpr uint32_t kNotifyMultiplier = 4;
  static constexpr uint64_t kBarSize = 0x4000;
  static constexpr uint64_t kTablesBarSize = 0x1000;
  static constexpr uint32_t kPendingOffset = 0x800;

  // `class_code` as PCI has it, 24 bits. The device outlives its transport.
  VirtioPci(VirtioDevice& device, uint32_t class_code, const Socket& socket);

  ~VirtioPci() override;

  VirtioDevice& device() { return device_; }
  // The eventfd that wakes whoever works the queues, before AssignResources(): the engine may
  // signal it in the place of RingDoorbell(). -1, as at first: there is none.
  void SetBell(int fd) { bell_ = fd; }

  // With the device paused.
  void PowerOnReset();
  VirtioPciState SaveState() const;
  vmm::Result<void> LoadState(const VirtioPciState& state);

 private:
  // VirtioDevice::Transport
  void InterruptQueue(unsigned queue) override;
  void InterruptConfig() override;
  bool MayAccessMemory() const override { return is_bus_master(); }

  void OnConfigWritten(uint16_t offset, size_t size) override;
  void OnConfigRead(uint16_t offset, std::span<uint8_t> data) override;
  void OnBarPlaced(unsigned index, std::optional<uint64_t> start) override;
  // The registers that the window in configuration space stands for now. 4.1.4.9
  bool Window(uint16_t offset, size_t size, uint64_t* start) const;

  void ReadRegisters(uint64_t offset, std::span<uint8_t> data);
  void WriteRegisters(uint64_t offset, std::span<const uint8_t> data);
  void WriteBar(uint64_t offset, std::span<const uint8_t> data);
  void ReadTables(uint64_t offset, std::span<uint8_t> data);
  void WriteTables(uint64_t offset, std::span<const uint8_t> data);
  void ReadCommon(uint64_t offset, std::span<uint8_t> data);
  void WriteCommon(uint64_t offset, std::span<const uint8_t> data);
  uint32_t ReadField(uint64_t field);
  void WriteAddress(uint64_t offset, std::span<const uint8_t> data);
  uint8_t TakeIsr();
  void RaiseIsr(pci::Isr bit);
  void Interrupt(uint16_t vector, pci::Isr bit);
  uint16_t CheckedVector(uint64_t value) const;
  void ForgetSelections();
  uint16_t DefinePart(pci::CapabilityType type, uint32_t offset, uint32_t length, uint16_t size);

  VirtioDevice& device_;
  vmm::DoorbellWires* const doorbells_;
  int bell_ = -1;
  std::vector<vmm::DoorbellWires::Doorbell> wired_;  // guarded by the decoder
  vmm::DevicePart<VirtioPci> registers_, tables_;
  uint16_t window_ = 0;  // the capability of the window
  bool was_bus_master_ = false;

  mutable std::mutex mutex_;  // guards the registers below
  uint32_t device_feature_select_ = 0, driver_feature_select_ = 0;
  uint16_t queue_select_ = 0;

  mutable std::mutex isr_mutex_;  // guards isr_; before the pin
  uint8_t isr_ = 0;

  std::atomic<uint16_t> config_vector_{pci::kNoVector};
  std::array<std::atomic<uint16_t>, VirtioDevice::kMaxQueues> queue_vectors_;
};

}  // namespace virtio
