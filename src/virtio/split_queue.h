// A split virtqueue, the device's end. [VIRTIO 1.2] 2.7
#pragma once

#include <cstdint>
#include <span>

#include "virtio/descriptor_chain.h"
#include "virtio/virtio_regs.h"
#include "vmm/core/memory/guest_memory.h"

namespace virtio {

// The driver may write anything into its rings at any time: each number is read once and checked
// before it is used, so whatever it writes, the device touches nothing but guest RAM and comes to
// an end. What no driver may do breaks the queue.
//
// Not thread-safe.
class SplitQueue {
 public:
  struct Layout {
    uint16_t size = 0;  // entries, a power of two
    vmm::GuestPhys descriptors, driver, device;
    friend bool operator==(const Layout&, const Layout&) = default;
  };
  // Where the device is in the rings.
  struct Position {
    uint16_t taken = 0;      // of the driver's ring
    uint16_t returned = 0;   // of its own
    uint16_t signalled = 0;  // `returned` when an interrupt was last thought of
    friend bool operator==(const Position&, const Position&) = default;
  };

  SplitQueue(const vmm::GuestMemory& memory, vmm::HostWriteListener& writes)
      : memory_(memory), writes_(writes) {}

  // False, and disabled: the rings are not in RAM, not aligned, or of no possible size.
  bool Enable(const Layout& layout, uint64_t features, const Position& position);
  void Disable() {
    layout_.size = 0;
    position_ = {};
  }
  bool enabled() const { return layout_.size != 0; }
  const Position& position() const { return position_; }

  enum class Taken : uint8_t { kNothing, kChain, kBroken };
  // The next chain of the driver. After kBroken nothing more may be asked of the queue.
  Taken Take(DescriptorChain& chain);
  // A chain that is given back; its first `written` writable bytes were written.
  struct Used {
    uint16_t head;
    uint32_t written;
  };
  void Return(uint16_t head, uint32_t written) {
    const Used used{head, written};
    Return({&used, 1});
  }
  // The driver sees all of them at once.
  void Return(std::span<const Used> chains);
  // The last `count` chains that were taken, and not returned, are as if they had not been.
  void PutBack(unsigned count);
  // Does the driver want an interrupt for what was returned since the last call?
  bool WantsInterrupt();

  // The driver need not tell of new chains until it is asked to.
  void StopNotifications();
  // True: there are chains already, and none may be told of.
  bool AskForNotifications();

  unsigned outstanding() const { return outstanding_; }  // taken and not returned

 private:
  struct Descriptor {
    uint64_t address;
    uint32_t length;
    uint16_t flags;
    uint16_t next;
    bool Has(ring::DescriptorFlag flag) const { return (flags & static_cast<uint16_t>(flag)) != 0; }
  };
  static Descriptor LoadDescriptor(const uint8_t* table, uint16_t index);
  bool Walk(uint16_t head, DescriptorChain& chain) const;
  bool AddPiece(const Descriptor& descriptor, DescriptorChain& chain) const;
  uint16_t AvailableIndex() const;
  bool HasFeature(Feature feature) const {
    return (features_ & static_cast<uint64_t>(feature)) != 0;
  }
  // 16-bit fields of the rings.
  uint16_t* DriverField(uint64_t offset) const {
    return reinterpret_cast<uint16_t*>(driver_ + offset);
  }
  void StoreInDevice(uint64_t offset, uint16_t value);
  uint64_t UsedEventOffset() const { return ring::kHeaderSize + 2 * uint64_t{layout_.size}; }
  uint64_t AvailEventOffset() const {
    return ring::kHeaderSize + ring::kUsedSize * uint64_t{layout_.size};
  }

  const vmm::GuestMemory& memory_;
  vmm::HostWriteListener& writes_;
  Layout layout_;  // of size 0 while disabled
  uint64_t features_ = 0;
  const uint8_t* descriptors_ = nullptr;
  uint8_t* driver_ = nullptr;
  uint8_t* device_ = nullptr;
  Position position_;
  unsigned outstanding_ = 0;
  bool wants_notifications_ = true;
};

}  // namespace virtio
