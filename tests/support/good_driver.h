// A driver that keeps to the specification, to see whether a device lives.
#pragma once

#include <array>
#include <chrono>
#include <functional>
#include <optional>
#include <vector>

#include "tests/support/virtio_board.h"
#include "tests/unit/virtio/ring_driver.h"
#include "virtio/virtio_pci.h"

namespace vmm {

// How long anything may take, be the host as slow as it likes.
inline constexpr std::chrono::seconds kPatience{30};
// True: `what` came true in time.
bool Await(const std::function<bool()>& what);

// One processor at a time; nobody else drives the device.
class GoodDriver {
 public:
  using Buffer = virtio::RingDriver::Buffer;
  // A queue's rings, and behind all of them the guest's buffers.
  static constexpr uint64_t kRingBytes = 0x10000;
  static constexpr uint64_t kBuffers = kRingBytes * (virtio::VirtioDevice::kMaxQueues + 1);
  static constexpr uint64_t RingAt(unsigned queue) { return kRingBytes * (queue + 1); }

  // `function` as it is after reset, with its resources.
  GoodDriver(VirtioBoard& board, virtio::VirtioPci& function);

  // The same driver in a machine that goes on where another one stopped, on the same RAM.
  GoodDriver(const GoodDriver& before, VirtioBoard& board, virtio::VirtioPci& function)
      : board_(board),
        function_(function),
        config_(before.config_),
        rings_(before.rings_),
        seen_(before.seen_) {}

  // Puts the function back where it was, resets the device and sets up all queues with these
  // features. False: the device does not do what it must.
  bool Begin(uint64_t features);
  // Puts configuration space back where it was.
  void Restore();
  // Resets the device and waits for that. False: it does not come.
  bool Reset();

  // A chain in the entries from `first` on; the queue is notified.
  void Offer(unsigned queue, uint16_t first, const std::vector<Buffer>& buffers);
  // The next chain that the device returns, with the bytes written. Nothing: none comes.
  std::optional<std::pair<uint32_t, uint32_t>> Returned(unsigned queue);
  bool HasReturned(unsigned queue) const { return rings_[queue].used_index() != seen_[queue]; }
  // Offers it and awaits its return: the bytes written.
  std::optional<uint32_t> Ask(unsigned queue, const std::vector<Buffer>& buffers);

  void Put(uint64_t address, std::span<const uint8_t> bytes) const;
  std::vector<uint8_t> Take(uint64_t address, size_t bytes) const;

 private:
  uint32_t Config(unsigned offset) const;
  void SetConfig(unsigned offset, uint32_t value, size_t size) const;

  VirtioBoard& board_;
  virtio::VirtioPci& function_;
  std::array<uint32_t, pci::kConfigSize / 4> config_{};  // as it was
  std::vector<virtio::RingDriver> rings_;
  std::vector<uint16_t> seen_;  // chains returned and looked at, a queue each
};

}  // namespace vmm
