#include "virtio/split_queue.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <utility>

#include "vmm/core/base/check.h"

namespace virtio {
namespace {

using ring::DescriptorFlag;

// Offsets in both rings. 2.7.6, 2.7.8
constexpr uint64_t kFlags = 0, kIndex = 2;

uint16_t LoadShared(const uint16_t* field) {
  return __atomic_load_n(field, __ATOMIC_ACQUIRE);
}

}  // namespace

bool SplitQueue::Enable(const Layout& layout, uint64_t features, const Position& position) {
  Disable();
  if (!std::has_single_bit(layout.size) || layout.size > ring::kMaxSize ||
      layout.descriptors.value % ring::kDescriptorAlign != 0 ||
      layout.driver.value % ring::kDriverAlign != 0 ||
      layout.device.value % ring::kDeviceAlign != 0) {
    return false;
  }
  const uint64_t size = layout.size;
  descriptors_ = memory_.Ram(layout.descriptors, size * ring::kDescriptorSize);
  driver_ = memory_.Ram(layout.driver, ring::kHeaderSize + size * 2 + 2);
  device_ = memory_.Ram(layout.device, ring::kHeaderSize + size * ring::kUsedSize + 2);
  if (descriptors_ == nullptr || driver_ == nullptr || device_ == nullptr) return false;
  layout_ = layout;
  features_ = features;
  position_ = position;
  outstanding_ = 0;
  wants_notifications_ = true;
  return true;
}

SplitQueue::Descriptor SplitQueue::LoadDescriptor(const uint8_t* table, uint16_t index) {
  Descriptor descriptor;
  static_assert(sizeof descriptor == ring::kDescriptorSize);
  std::memcpy(&descriptor, table + index * ring::kDescriptorSize, sizeof descriptor);
  // The compiler may not read guest memory a second time.
  std::atomic_signal_fence(std::memory_order_seq_cst);
  return descriptor;
}

uint16_t SplitQueue::AvailableIndex() const {
  return LoadShared(DriverField(kIndex));
}

SplitQueue::Taken SplitQueue::Take(DescriptorChain& chain) {
  const auto waiting = static_cast<uint16_t>(AvailableIndex() - position_.taken);
  if (waiting == 0) return Taken::kNothing;
  // A driver has no more chains than descriptors, those that were not returned included.
  if (waiting > layout_.size || outstanding_ == layout_.size) return Taken::kBroken;
  const uint64_t slot = position_.taken & (layout_.size - 1);
  const uint16_t head = LoadShared(DriverField(ring::kHeaderSize + 2 * slot));
  if (!Walk(head, chain)) return Taken::kBroken;
  ++position_.taken;
  ++outstanding_;
  return Taken::kChain;
}

// A chain has at most as many descriptors as the queue, those of an indirect table included; so a
// loop ends. 2.7.5.1, 2.7.5.3.1
bool SplitQueue::Walk(uint16_t head, DescriptorChain& chain) const {
  chain.head = head;
  chain.readable.Clear();
  chain.writable.Clear();
  const uint8_t* table = descriptors_;
  uint32_t entries = layout_.size, index = head;
  bool is_indirect = false;
  for (unsigned steps = 0; steps < layout_.size;) {
    if (index >= entries) return false;
    const Descriptor d = LoadDescriptor(table, static_cast<uint16_t>(index));
    if (d.Has(DescriptorFlag::INDIRECT)) {
      if (is_indirect || !HasFeature(Feature::INDIRECT_DESC) || d.Has(DescriptorFlag::NEXT) ||
          d.length == 0 || d.length % ring::kDescriptorSize != 0) {
        return false;
      }
      table = memory_.Ram(vmm::GuestPhys(d.address), d.length);
      if (table == nullptr) return false;
      entries = static_cast<uint32_t>(
          std::min<uint64_t>(d.length / ring::kDescriptorSize, uint64_t{1} << 16));
      index = 0;
      is_indirect = true;
      continue;
    }
    ++steps;
    if (!AddPiece(d, chain)) return false;
    if (!d.Has(DescriptorFlag::NEXT)) return true;
    index = d.next;
  }
  return false;
}

bool SplitQueue::AddPiece(const Descriptor& d, DescriptorChain& chain) const {
  const vmm::GuestPhys address(d.address);
  const bool writable = d.Has(DescriptorFlag::WRITE);
  // What the device reads comes first. 2.7.4.2
  if (!writable && chain.writable.length() != 0) return false;
  if (d.length == 0) return true;
  uint8_t* host = writable ? memory_.Ram(address, d.length) : memory_.Host(address, d.length);
  if (host == nullptr) return false;
  (writable ? chain.writable : chain.readable).Add({address, host, d.length});
  return true;
}

void SplitQueue::StoreInDevice(uint64_t offset, uint16_t value) {
  __atomic_store_n(reinterpret_cast<uint16_t*>(device_ + offset), value, __ATOMIC_RELEASE);
  writes_.OnHostWrite(layout_.device + offset, sizeof value);
}

void SplitQueue::Return(std::span<const Used> chains) {
  for (const Used& used : chains) {
    const uint64_t at =
        ring::kHeaderSize + ring::kUsedSize * uint64_t(position_.returned & (layout_.size - 1));
    const uint32_t element[2] = {used.head, used.written};
    std::memcpy(device_ + at, element, sizeof element);
    writes_.OnHostWrite(layout_.device + at, sizeof element);
    --outstanding_;
    ++position_.returned;
  }
  StoreInDevice(kIndex, position_.returned);
}

void SplitQueue::PutBack(unsigned count) {
  CHECK(count <= outstanding_);
  position_.taken = static_cast<uint16_t>(position_.taken - count);
  outstanding_ -= count;
}

// 2.7.7, 2.7.10
bool SplitQueue::WantsInterrupt() {
  if (position_.signalled == position_.returned) return false;
  // The index is out before the driver's wish is read: a driver writes the wish, then reads the
  // index.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  const uint16_t old = std::exchange(position_.signalled, position_.returned);
  if (!HasFeature(Feature::EVENT_IDX)) {
    return (LoadShared(DriverField(kFlags)) & ring::kNoInterrupt) == 0;
  }
  const uint16_t event = LoadShared(DriverField(UsedEventOffset()));
  return static_cast<uint16_t>(position_.returned - event - 1) <
         static_cast<uint16_t>(position_.returned - old);
}

void SplitQueue::StopNotifications() {
  if (!std::exchange(wants_notifications_, false)) return;
  // With the event index there is nothing to do: the event that was asked for is over.
  if (!HasFeature(Feature::EVENT_IDX)) StoreInDevice(kFlags, ring::kNoNotify);
}

bool SplitQueue::AskForNotifications() {
  wants_notifications_ = true;
  if (HasFeature(Feature::EVENT_IDX)) {
    StoreInDevice(AvailEventOffset(), position_.taken);
  } else {
    StoreInDevice(kFlags, 0);
  }
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return AvailableIndex() != position_.taken;
}

}  // namespace virtio
