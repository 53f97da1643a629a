// Which function answers at which addresses: what base address registers ask for, on the buses.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <vector>

#include "vmm/core/bus/bus.h"

namespace vmm {

// A guest may put two ranges on the same addresses for a while. The one that was there first
// answers; the other takes its place as soon as that leaves.
//
// Threads: any; the caller may hold its own lock. Lock rank: before the bus.
class PciDecoder {
 public:
  enum class Space : uint8_t { kPorts, kMemory };

  PciDecoder(Bus& ports, Bus& mmio) : ports_(ports), mmio_(mmio) {}
  PciDecoder(const PciDecoder&) = delete;
  PciDecoder& operator=(const PciDecoder&) = delete;

  // Where a device begins to answer, or that it does so no more. Called with the lock held.
  using Placed = std::function<void(std::optional<uint64_t> start)>;

  // From here on `device` answers at [start, start + length), and nowhere else; without a start it
  // doesn't answer at all. It outlives its place, and the vCPUs. `placed` is told, as long as that
  // is its wish.
  void Place(Device& device, Space space, std::optional<uint64_t> start, uint64_t length,
             Placed placed = {});

 private:
  struct Wish {
    Device* device;
    Bus* bus;
    uint64_t start, length;
    bool granted;
    Placed placed;
  };

  Bus& ports_;
  Bus& mmio_;
  std::mutex mutex_;
  std::vector<Wish> wishes_;  // in the order in which they came
};

}  // namespace vmm
