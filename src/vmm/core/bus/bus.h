// An address space with devices in it: ports, or guest-physical addresses outside RAM.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <span>

#include "vmm/core/base/result.h"
#include "vmm/core/bus/device.h"

namespace vmm {

// Threads: Read and Write from any thread, without a lock (readers take a snapshot by sequence
// count); Attach, Detach under an internal mutex. A device must outlive its ranges.
class Bus {
 public:
  static constexpr unsigned kMaxRanges = 256;

  explicit Bus(uint64_t size) : size_(size) {}  // one past the last address
  Bus(const Bus&) = delete;
  Bus& operator=(const Bus&) = delete;

  // [start, start+length) is answered by `device`, with offsets counted from `start`. An overlap
  // with an attached range, a range outside the bus or a full table is an error (kInternal).
  Result<void> Attach(uint64_t start, uint64_t length, Device& device);
  void Detach(uint64_t start);

  // data is 1, 2, 4 or 8 bytes. Nobody there: reads give all ones, writes vanish. An access that
  // runs over the start or end of a range is split into bytes, lowest address first.
  void Read(uint64_t address, std::span<uint8_t> data) const;
  void Write(uint64_t address, std::span<const uint8_t> data) const;

  struct Range {
    uint64_t start, length;
    Device* device;
  };
  // A snapshot in address order, for `vmm inspect`; returns how many ranges were written to `out`.
  size_t Ranges(std::span<Range> out) const;
  // The range that holds `address`, if any.
  bool Find(uint64_t address, Range* out) const;

 private:
  struct Slot {
    std::atomic<uint64_t> start{0}, length{0};
    std::atomic<Device*> device{nullptr};
  };
  // Who answers an access: `device` at `offset`, or nobody; `straddles` when more than one may.
  struct Target {
    Device* device;
    uint64_t offset;
    bool straddles;
  };
  template <class Body>
  auto Snapshot(Body body) const;  // runs body(count) until no writer interfered
  unsigned UpperBound(uint64_t address, unsigned count) const;  // first slot that starts above
  Range Load(unsigned index) const;
  void Store(unsigned index, const Range& range);
  Target Lookup(uint64_t address, size_t length) const;

  uint64_t size_;
  mutable std::mutex mutex_;
  std::atomic<uint32_t> sequence_{0};  // odd while a writer is at work
  std::atomic<uint32_t> count_{0};
  std::array<Slot, kMaxRanges> slots_;  // sorted by start
};

}  // namespace vmm
