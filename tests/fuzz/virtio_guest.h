// What the guests of the virtio fuzz targets share: queues at known places, and steps that an input
// chooses.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "tests/support/choices.h"
#include "tests/support/virtio_board.h"
#include "virtio/virtio_pci.h"
#include "vmm/core/base/check.h"
#include "vmm/core/base/log.h"

namespace vmm {

class VirtioGuest {
 public:
  static constexpr uint64_t kRam = 2 * kMiB;
  static constexpr uint64_t kQueueBytes = 0x1000;  // a queue's rings, from address 0 on
  static constexpr uint16_t kQueueSize = 8;
  static constexpr uint64_t kFirstPage = 0x10000;  // of 255 with buffers
  static constexpr int kMostSteps = 4096;

 protected:
  explicit VirtioGuest(unsigned queues) : queues_(queues), offered_(queues) {
    SetLogLevel(LogLevel::kError);
    board_.Clear(0, kRam);
  }
  ~VirtioGuest() = default;

  // As a good driver begins, with all features, on a device that was reset.
  void Begin(virtio::VirtioPci& function) {
    board_.Clear(0, queues_ * kQueueBytes);
    std::ranges::fill(offered_, uint16_t{0});
    const std::array<uint8_t, 2> command{6, 0};
    function.WriteConfig(pci::kCommand, command);
    std::vector<virtio::SplitQueue::Layout> layouts;
    for (unsigned queue = 0; queue < queues_; ++queue) {
      const GuestPhys at(queue * kQueueBytes);
      layouts.push_back({kQueueSize, at, at + 0x400, at + 0x800});
    }
    board_.StartDriver(function.device().offered_features(), layouts);
  }
  void SetStatus(uint64_t value) { board_.SetField(virtio::pci::Common::device_status, value, 1); }
  void Write(uint64_t offset, uint64_t value, size_t size) {
    board_.Write(VirtioBoard::kRegisters + offset, value, size);
  }
  void Read(uint64_t offset, size_t size) {
    static_cast<void>(board_.Read(VirtioBoard::kRegisters + offset, size));
  }
  static size_t SizeOf(Choices& in) { return size_t{1} << in.Take(1) % 4; }
  void Kick(uint64_t queue) {
    Write(virtio::VirtioPci::kNotify + virtio::VirtioPci::kNotifyMultiplier * queue, 0, 2);
  }
  // Two bytes among the rings.
  void PokeRings(Choices& in) {
    const uint64_t at = in.Take(2) % (queues_ * kQueueBytes);
    board_.Poke(at, in.Take(2), 2);
  }
  // An entry of a table: its place is mostly good, and so are lengths below `odd`.
  void Describe(Choices& in, uint64_t odd) {
    const uint64_t table = QueueAt(in), at = table + 16 * (in.Take(1) % 16);
    const uint64_t page = in.Take(1);
    board_.Poke(at, page == 0xFF ? in.Take(8) : PageAt(page), 8);
    const uint64_t length = in.Take(1);
    board_.Poke(at + 8, length < odd ? length * 16 : in.Take(4), 4);
    board_.Poke(at + 12, in.Take(1), 2);
    board_.Poke(at + 14, in.Take(1), 2);
  }
  void Offer(Choices& in) {
    const uint64_t ring = QueueAt(in) + 0x400;
    uint16_t& offered = offered_[ring / kQueueBytes];
    board_.Poke(ring + 4 + 2 * (offered % kQueueSize), in.Take(1), 2);
    board_.Poke(ring + 2, ++offered, 2);
  }
  static constexpr uint64_t PageAt(uint64_t page) { return kFirstPage + 0x1000 * page; }
  // With the device paused: what was saved is what is loaded; a changed state is loaded or refused.
  static void SaveAndLoad(virtio::VirtioPci& function, uint64_t how) {
    virtio::VirtioPciState state = function.SaveState();
    CHECK(function.LoadState(state));
    CHECK(function.SaveState() == state);
    if (how & 1) {
      state.device.queues[how >> 1 & 3].taken ^= static_cast<uint16_t>(how);
      state.device.queues[how >> 3 & 3].driver ^= how << 8;
      state.device.status = BitRegister<virtio::Status>(static_cast<uint8_t>(how));
      static_cast<void>(function.LoadState(state));
    }
    if (how & 0x80) function.PowerOnReset();
  }

 private:
  uint64_t QueueAt(Choices& in) const { return kQueueBytes * (in.Take(1) % queues_); }
  static const GuestMemory& Memory() {
    static const GuestMemory memory = std::move(GuestMemory::Create(kRam).value());
    return memory;
  }

 protected:
  VirtioBoard board_{Memory()};

 private:
  const unsigned queues_;
  std::vector<uint16_t> offered_;
};

// The steps that an input asks for.
template <class Guest>
int RunSteps(Guest& guest, Choices& in) {
  for (int steps = 0; steps < Guest::kMostSteps && !in.empty(); ++steps) guest.Step(in);
  return 0;
}

}  // namespace vmm
