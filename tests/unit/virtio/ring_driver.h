// A driver's end of a split queue, for tests: it can do what a driver does, and what none may.
#pragma once

#include <cstdint>
#include <cstring>
#include <mutex>
#include <utility>
#include <vector>

#include "virtio/split_queue.h"

namespace virtio {

// Notes what was told to be written.
class NotedWrites final : public vmm::HostWriteListener {
 public:
  void OnHostWrite(vmm::GuestPhys start, uint64_t length) override {
    const std::lock_guard lock(mutex_);
    ranges_.push_back({start.value, length});
  }
  bool Covers(uint64_t address, uint64_t length) {
    const std::lock_guard lock(mutex_);
    for (const auto& [start, size] : ranges_) {
      if (address >= start && address + length <= start + size) return true;
    }
    return false;
  }

 private:
  std::mutex mutex_;
  std::vector<std::pair<uint64_t, uint64_t>> ranges_;
};

class RingDriver {
 public:
  static constexpr uint16_t kNext = 1, kWrite = 2, kIndirect = 4;
  struct Buffer {
    uint64_t address;
    uint32_t length;
    bool writable;
  };

  RingDriver(const vmm::GuestMemory& memory, uint64_t base, uint16_t size)
      : memory_(&memory),
        layout_{size, vmm::GuestPhys(base), vmm::GuestPhys(base + 0x4000),
                vmm::GuestPhys(base + 0x8000)} {}

  // The same driver in another machine's memory.
  RingDriver On(const vmm::GuestMemory& memory) const {
    RingDriver driver = *this;
    driver.memory_ = &memory;
    return driver;
  }

  const SplitQueue::Layout& layout() const { return layout_; }

  template <class T>
  T Get(uint64_t address) const {
    T value;
    std::memcpy(&value, memory_->Ram(vmm::GuestPhys(address), sizeof value), sizeof value);
    return value;
  }
  template <class T>
  void Set(uint64_t address, T value) const {
    std::memcpy(memory_->Ram(vmm::GuestPhys(address), sizeof value), &value, sizeof value);
  }

  // Entry `index` of the table at `table`.
  void Describe(uint64_t table, unsigned index, uint64_t address, uint32_t length, uint16_t flags,
                uint16_t next) const {
    const uint64_t at = table + 16 * uint64_t{index};
    Set<uint64_t>(at, address);
    Set<uint32_t>(at + 8, length);
    Set<uint16_t>(at + 12, flags);
    Set<uint16_t>(at + 14, next);
  }
  void Describe(unsigned index, uint64_t address, uint32_t length, uint16_t flags,
                uint16_t next = 0) const {
    Describe(layout_.descriptors.value, index, address, length, flags, next);
  }
  // A chain in the entries from `first` on; its head.
  uint16_t Chain(uint16_t first, const std::vector<Buffer>& buffers) const {
    return Chain(layout_.descriptors.value, first, buffers);
  }
  uint16_t Chain(uint64_t table, uint16_t first, const std::vector<Buffer>& buffers) const {
    for (size_t i = 0; i < buffers.size(); ++i) {
      const bool last = i + 1 == buffers.size();
      const auto flags =
          static_cast<uint16_t>((buffers[i].writable ? kWrite : 0) | (last ? 0 : kNext));
      Describe(table, static_cast<unsigned>(first + i), buffers[i].address, buffers[i].length,
               flags, static_cast<uint16_t>(first + i + 1));
    }
    return first;
  }

  void Offer(uint16_t head) {
    Set<uint16_t>(layout_.driver.value + 4 + 2 * (offered_ % layout_.size), head);
    SetIndex(++offered_);
  }
  void SetIndex(uint16_t index) const {
    auto* field = reinterpret_cast<uint16_t*>(memory_->Ram(layout_.driver + 2, sizeof(uint16_t)));
    __atomic_store_n(field, index, __ATOMIC_RELEASE);
  }
  void SetFlags(uint16_t flags) const { Set<uint16_t>(layout_.driver.value, flags); }
  void SetUsedEvent(uint16_t event) const {
    Set<uint16_t>(layout_.driver.value + 4 + 2 * layout_.size, event);
  }

  uint16_t used_index() const {
    const auto* field =
        reinterpret_cast<const uint16_t*>(memory_->Ram(layout_.device + 2, sizeof(uint16_t)));
    return __atomic_load_n(field, __ATOMIC_ACQUIRE);
  }
  std::pair<uint32_t, uint32_t> Used(uint16_t index) const {
    const uint64_t at = layout_.device.value + 4 + 8 * (index % layout_.size);
    return {Get<uint32_t>(at), Get<uint32_t>(at + 4)};
  }
  uint16_t used_flags() const { return Get<uint16_t>(layout_.device.value); }
  uint16_t avail_event() const {
    return Get<uint16_t>(layout_.device.value + 4 + 8 * layout_.size);
  }

 private:
  const vmm::GuestMemory* memory_;
  SplitQueue::Layout layout_;
  uint16_t offered_ = 0;
};

inline constexpr uint64_t kAllRingFeatures = static_cast<uint64_t>(Feature::VERSION_1) |
                                             static_cast<uint64_t>(Feature::INDIRECT_DESC) |
                                             static_cast<uint64_t>(Feature::EVENT_IDX);

}  // namespace virtio
