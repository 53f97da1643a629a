#include "vmm/core/bus/bus.h"

#include <fmt/format.h>

#include <algorithm>

namespace vmm {

// The sequence lock: a writer makes `sequence_` odd, moves slots, makes it even again. Slots are
// stored with release and loaded with acquire (plain moves on x86), so that a reader that has seen
// any slot of an unfinished change also sees the odd count or its successor and tries again.
template <class Body>
auto Bus::Snapshot(Body body) const {
  while (true) {
    const uint32_t before = sequence_.load(std::memory_order_acquire);
    if (before & 1) {
      __builtin_ia32_pause();
      continue;
    }
    const auto result = body(count_.load(std::memory_order_acquire));
    if (sequence_.load(std::memory_order_relaxed) == before) return result;
  }
}

unsigned Bus::UpperBound(uint64_t address, unsigned count) const {
  unsigned low = 0;
  unsigned high = std::min(count, kMaxRanges);
  while (low < high) {
    const unsigned middle = (low + high) / 2;
    if (slots_[middle].start.load(std::memory_order_acquire) <= address) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

Bus::Range Bus::Load(unsigned index) const {
  const Slot& slot = slots_[index];
  return {slot.start.load(std::memory_order_acquire), slot.length.load(std::memory_order_acquire),
          slot.device.load(std::memory_order_acquire)};
}

void Bus::Store(unsigned index, const Range& range) {
  Slot& slot = slots_[index];
  slot.start.store(range.start, std::memory_order_release);
  slot.length.store(range.length, std::memory_order_release);
  slot.device.store(range.device, std::memory_order_release);
}

Result<void> Bus::Attach(uint64_t start, uint64_t length, Device& device) {
  if (length == 0 || length > size_ || start > size_ - length) {
    return Fail(ExitCode::kInternal,
                fmt::format("device {}: range {:#x}+{:#x} is outside a bus of {:#x}", device.name(),
                            start, length, size_));
  }
  std::lock_guard lock(mutex_);
  const unsigned count = count_.load(std::memory_order_relaxed);
  if (count == kMaxRanges) {
    return Fail(ExitCode::kInternal,
                fmt::format("device {}: the bus is full ({} ranges)", device.name(), kMaxRanges));
  }
  const unsigned position = UpperBound(start, count);
  for (unsigned neighbour : {position - 1, position}) {  // position 0 wraps to a huge index
    if (neighbour >= count) continue;
    const Range other = Load(neighbour);
    if (other.start < start + length && start < other.start + other.length) {
      return Fail(
          ExitCode::kInternal,
          fmt::format("device {}: range {:#x}+{:#x} overlaps {} at {:#x}+{:#x}", device.name(),
                      start, length, other.device->name(), other.start, other.length));
    }
  }
  sequence_.fetch_add(1, std::memory_order_acq_rel);
  for (unsigned i = count; i > position; --i) Store(i, Load(i - 1));
  Store(position, {start, length, &device});
  count_.store(count + 1, std::memory_order_release);
  sequence_.fetch_add(1, std::memory_order_acq_rel);
  return {};
}

void Bus::Detach(uint64_t start) {
  std::lock_guard lock(mutex_);
  const unsigned count = count_.load(std::memory_order_relaxed);
  const unsigned after = UpperBound(start, count);
  if (after == 0 || Load(after - 1).start != start) return;
  sequence_.fetch_add(1, std::memory_order_acq_rel);
  for (unsigned i = after; i < count; ++i) Store(i - 1, Load(i));
  count_.store(count - 1, std::memory_order_release);
  sequence_.fetch_add(1, std::memory_order_acq_rel);
}

Bus::Target Bus::Lookup(uint64_t address, size_t length) const {
  return Snapshot([&](unsigned count) -> Target {
    const unsigned after = UpperBound(address, count);
    if (after > 0) {
      const Range range = Load(after - 1);
      const uint64_t offset = address - range.start;
      if (offset < range.length) {
        return {range.device, offset, length > range.length - offset};
      }
    }
    const bool runs_into_next =
        after < count && Load(after).start - address < length;  // Load(after).start > address
    return {nullptr, 0, runs_into_next};
  });
}

void Bus::Read(uint64_t address, std::span<uint8_t> data) const {
  // All ones first: an open bus reads so, and no device can leak bytes of the host's stack.
  std::fill(data.begin(), data.end(), uint8_t{0xff});
  const Target target = Lookup(address, data.size());
  if (target.straddles) {
    for (size_t i = 0; i < data.size(); ++i) {
      const Target byte = Lookup(address + i, 1);
      if (byte.device != nullptr) byte.device->Read(byte.offset, data.subspan(i, 1));
    }
  } else if (target.device != nullptr) {
    target.device->Read(target.offset, data);
  }
}

void Bus::Write(uint64_t address, std::span<const uint8_t> data) const {
  const Target target = Lookup(address, data.size());
  if (target.straddles) {
    for (size_t i = 0; i < data.size(); ++i) {
      const Target byte = Lookup(address + i, 1);
      if (byte.device != nullptr) byte.device->Write(byte.offset, data.subspan(i, 1));
    }
  } else if (target.device != nullptr) {
    target.device->Write(target.offset, data);
  }
}

size_t Bus::Ranges(std::span<Range> out) const {
  std::lock_guard lock(mutex_);
  const size_t count = std::min<size_t>(out.size(), count_.load(std::memory_order_relaxed));
  for (size_t i = 0; i < count; ++i) out[i] = Load(static_cast<unsigned>(i));
  return count;
}

bool Bus::Find(uint64_t address, Range* out) const {
  struct Found {
    bool found;
    Range range;
  };
  const Found found = Snapshot([&](unsigned count) -> Found {
    const unsigned after = UpperBound(address, count);
    if (after == 0) return {};
    const Range range = Load(after - 1);
    return {address - range.start < range.length, range};
  });
  if (found.found) *out = found.range;
  return found.found;
}

}  // namespace vmm
