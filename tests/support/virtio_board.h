// Memory, buses and wires around one virtio device in a PCI slot, for tests that do to it what no
// driver may. What it tells of writes outside guest RAM ends the test.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <vector>

#include "virtio/virtio_pci.h"
#include "vmm/core/base/bytes.h"
#include "vmm/core/bus/bus.h"
#include "vmm/core/irq/irq_line.h"
#include "vmm/core/memory/guest_memory.h"
#include "vmm/core/pci/pci_address_plan.h"

namespace vmm {

class VirtioBoard : private IrqLine, private MsiSink, private HostWriteListener {
 public:
  // Of BAR 0, where AssignResources() of the first function puts it.
  static constexpr uint64_t kRegisters = PciAddressPlan::kFirstMemory;

  explicit VirtioBoard(const GuestMemory& memory) : memory_(memory) {}

  const GuestMemory& memory() const { return memory_; }
  Bus& ports() { return ports_; }
  virtio::VirtioDevice::Host host() { return {memory_, *this}; }
  PciEndpoint::Socket socket() { return {decoder_, *this, *this}; }
  uint64_t writes() const { return writes_; }          // that the device told of
  uint64_t interrupts() const { return interrupts_; }  // messages, and rises of the pin

  // --- Of a processor. ---
  void Write(uint64_t address, uint64_t value, size_t size) {
    std::array<uint8_t, 8> data{};
    StoreLittleEndian(data, value);
    mmio_.Write(address, std::span<const uint8_t>(data).first(size));
  }
  uint64_t Read(uint64_t address, size_t size) {
    std::array<uint8_t, 8> data{};
    mmio_.Read(address, std::span(data).first(size));
    return LoadLittleEndian(data);
  }
  void SetField(virtio::pci::Common field, uint64_t value, size_t size) {
    Write(kRegisters + static_cast<uint64_t>(field), value, size);
  }
  // RAM, whoever else is at work there.
  __attribute__((no_sanitize("thread"))) void Poke(uint64_t address, uint64_t value,
                                                   unsigned size) const {
    for (unsigned i = 0; i < size; ++i) {
      volatile uint8_t* byte = memory_.Ram(GuestPhys(address + i), 1);
      *byte = static_cast<uint8_t>(value >> (8 * i));
    }
  }
  __attribute__((no_sanitize("thread"))) void Clear(uint64_t address, uint64_t size) const {
    volatile uint8_t* bytes = memory_.Ram(GuestPhys(address), size);
    for (uint64_t i = 0; i < size; ++i) bytes[i] = 0;
  }

  // As a good driver begins. The queues that are left out stay as they are. [VIRTIO 1.2] 3.1.1
  void StartDriver(uint64_t features, std::span<const virtio::SplitQueue::Layout> queues) {
    using virtio::pci::Common;
    SetField(Common::device_status, 3, 1);
    for (const uint32_t half : {0u, 1u}) {
      SetField(Common::driver_feature_select, half, 4);
      SetField(Common::driver_feature, features >> (32 * half), 4);
    }
    SetField(Common::device_status, 0xB, 1);
    for (size_t i = 0; i < queues.size(); ++i) {
      SetField(Common::queue_select, i, 2);
      SetField(Common::queue_size, queues[i].size, 2);
      SetField(Common::queue_desc, queues[i].descriptors.value, 8);
      SetField(Common::queue_driver, queues[i].driver.value, 8);
      SetField(Common::queue_device, queues[i].device.value, 8);
      SetField(Common::queue_enable, 1, 2);
    }
    SetField(Common::device_status, 0xF, 1);
  }

 private:
  void Set(bool high) override { interrupts_ += high; }
  void SendMsi(MsiMessage) override { ++interrupts_; }
  void OnHostWrite(GuestPhys start, uint64_t length) override {
    if (memory_.Ram(start, length) == nullptr) std::abort();
    ++writes_;
  }

  const GuestMemory& memory_;
  Bus ports_{0x10000}, mmio_{uint64_t{1} << 52};
  PciDecoder decoder_{ports_, mmio_};
  std::atomic<uint64_t> writes_{0}, interrupts_{0};
};

}  // namespace vmm
