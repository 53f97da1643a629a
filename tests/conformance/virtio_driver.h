// Drives virtio devices from a guest: modern PCI, split rings with event index. One processor, with
// interrupts off but while it waits. [VIRTIO 1.2] 2.7, 4.1
#pragma once

#include "lib/guest.h"
#include "virtio/virtio_regs.h"
#include "vmm/core/pci/pci_regs.h"

namespace guest {

// A function on bus 0, by configuration mechanism #1. [PCI] 3.2.2.3.2
class PciFunction {
 public:
  // By vendor and device; there must be one.
  explicit PciFunction(uint32_t id);

  uint32_t Read32(unsigned offset) const;
  uint16_t Read16(unsigned offset) const;
  uint8_t Read8(unsigned offset) const;
  void Write16(unsigned offset, uint16_t value) const;
  uint64_t Bar(unsigned index) const;  // of memory
  // The capability behind `previous`, 0 for the first; 0: there are no more.
  unsigned NextCapability(unsigned previous) const;

 private:
  uint32_t address_ = 0;  // as CONFIG_ADDRESS has it
};

// The driver's end of a split ring. 2.7
class VirtioQueue {
 public:
  static constexpr uint16_t kSize = 32;
  struct Buffer {
    const volatile void* data;
    uint32_t length;
    bool is_writable;
  };

  // A chain in the descriptors from `first` on, none of which the device has.
  void Offer(uint16_t first, std::initializer_list<Buffer> buffers);
  // Takes a chain that came back, which is checked to be one that the device has. False: there is
  // none, and the next one to come will interrupt.
  bool Take(uint16_t* first, uint32_t* written);
  unsigned offered() const { return offered_; }  // chains that the device has

 private:
  friend class VirtioFunction;

  struct Descriptor {
    uint64_t address;
    uint32_t length;
    uint16_t flags, next;
  };
  struct Driver {
    uint16_t flags, index, ring[kSize], used_event;
  };
  struct Device {
    uint16_t flags, index;
    struct {
      uint32_t first, written;
    } ring[kSize];
    uint16_t available_event;
  };

  alignas(16) volatile Descriptor descriptors_[kSize] = {};
  alignas(2) volatile Driver driver_ = {};
  alignas(4) volatile Device device_ = {};
  uint64_t notify_ = 0;  // the address
  uint16_t index_ = 0;   // of the queue
  uint16_t seen_ = 0;    // chains that came back
  unsigned offered_ = 0;
  bool is_out_[kSize] = {};  // by the chain's first descriptor
};

class VirtioFunction {
 public:
  // `type` as the specification counts them. Resets the device and lets it have these features,
  // VERSION_1 and EVENT_IDX.
  VirtioFunction(uint16_t type, uint64_t features);

  // Before Start().
  void SetUpQueue(uint16_t index, VirtioQueue& queue);
  // All queues that are set up interrupt by this message. [PCI] 6.8.2
  void UseMessage(uint32_t address, uint32_t data);
  void Start();

  const PciFunction& pci() const { return pci_; }
  uint64_t config() const { return device_; }                    // address of its own part
  uint8_t TakeIsr() const { return ReadMemory<uint8_t>(isr_); }  // lowers the pin

 private:
  template <class T>
  T Get(virtio::pci::Common field) const {
    return ReadMemory<T>(common_ + static_cast<uint64_t>(field));
  }
  template <class T>
  void Set(virtio::pci::Common field, T value) const {
    WriteMemory<T>(common_ + static_cast<uint64_t>(field), value);
  }

  PciFunction pci_;
  uint64_t common_ = 0, notify_ = 0, isr_ = 0, device_ = 0;
  uint32_t multiplier_ = 0;
};

}  // namespace guest
