// What the hostile driver does to rings, chains and buffers. [VIRTIO 1.2] 2.7
#include <algorithm>
#include <chrono>
#include <thread>

#include "tests/hostile/hostile_driver.h"
#include "vmm/core/base/bytes.h"

namespace hostile {

using virtio::RingDriver;

namespace {

constexpr uint64_t kPage = 4096;
constexpr unsigned kMostNaps = 3;
constexpr unsigned kMostPieces = 3;  // of what a request reads, and of what it writes
constexpr uint16_t kNext = RingDriver::kNext, kWrite = RingDriver::kWrite,
                   kIndirect = RingDriver::kIndirect;

}  // namespace

uint64_t HostileDriver::PlaceFor(uint64_t length) {
  const uint64_t room = scene_.board.memory().size() - GoodDriver::kBuffers;
  const uint64_t pages = (room - std::min(room, length)) / kPage;
  return GoodDriver::kBuffers + kPage * choices_.Below(std::max<uint64_t>(pages, 1));
}

// The request's bytes somewhere, and where they are.
std::vector<HostileDriver::Piece> HostileDriver::LayOut(const Request& request) {
  std::vector<Piece> pieces;
  const auto cut = [&](uint64_t length, bool writable) {
    uint64_t done = 0;
    for (unsigned i = 0; i < kMostPieces && done < length; ++i) {
      const uint64_t left = length - done;
      const uint64_t part =
          i + 1 == kMostPieces || choices_.OneIn(2) ? left : 1 + choices_.Below(left);
      const uint64_t address = PlaceFor(part);
      if (!writable) {
        for (uint64_t at = 0; at < part; at += 8) {
          const auto some = static_cast<unsigned>(std::min<uint64_t>(8, part - at));
          const std::span bytes = std::span(request.out).subspan(done + at, some);
          scene_.board.Poke(address + at, vmm::LoadLittleEndian(bytes), some);
        }
      }
      pieces.push_back({address, static_cast<uint32_t>(part), writable});
      done += part;
    }
  };
  cut(request.out.size(), false);
  cut(request.in, true);
  if (pieces.empty()) pieces.push_back({PlaceFor(0), 0, choices_.OneIn(2)});
  return pieces;
}

void HostileDriver::Describe(uint64_t table, unsigned index, const Piece& piece, uint16_t flags,
                             uint16_t next) {
  const uint64_t at = table + virtio::ring::kDescriptorSize * index;
  scene_.board.Poke(at, piece.address, 8);
  scene_.board.Poke(at + 8, piece.length, 4);
  scene_.board.Poke(at + 12, flags, 2);
  scene_.board.Poke(at + 14, next, 2);
}

// One thing in one of the chain's entries is not as it should be.
void HostileDriver::Spoil(uint64_t table, unsigned first, size_t count, unsigned entries) {
  const auto index = static_cast<unsigned>(first + choices_.Below(count)) % entries;
  const uint64_t at = table + virtio::ring::kDescriptorSize * index;
  switch (choices_.Below(10)) {
    case 0:  // somewhere else
      return scene_.board.Poke(at, SomeAddress(), 8);
    case 1:  // longer
      return scene_.board.Poke(at + 8,
                               choices_.OneOf(std::array<uint64_t, 6>{0, 1, 0x7FFFFFFF, 0x80000000,
                                                                      0xFFFFFFFF, 0x400000}),
                               4);
    case 2:  // across the end of RAM, or of the address space
      scene_.board.Poke(at, choices_.OneIn(2) ? scene_.board.memory().size() - 8 : ~uint64_t{7}, 8);
      return scene_.board.Poke(at + 8, choices_.OneIn(2) ? 9 : 4096, 4);
    case 3:  // a loop
      scene_.board.Poke(at + 12, kNext, 2);
      return scene_.board.Poke(at + 14, choices_.OneIn(2) ? index : first, 2);
    case 4:  // the next one is none
      scene_.board.Poke(at + 12, kNext, 2);
      return scene_.board.Poke(at + 14, choices_.OneIn(2) ? entries : SomeValue(), 2);
    case 5:  // the other direction
      return scene_.board.Poke(at + 12, choices_.OneIn(2) ? kWrite : 0, 2);
    case 6:  // indirect, also in an indirect table, to itself or anywhere
      scene_.board.Poke(at, choices_.OneIn(2) ? table : SomeAddress(), 8);
      scene_.board.Poke(at + 8, choices_.OneIn(2) ? 16 * choices_.Below(20) : SomeValue(), 4);
      return scene_.board.Poke(at + 12, kIndirect | choices_.Below(4), 2);
    case 7:  // any flags
      return scene_.board.Poke(at + 12, choices_.Take(2), 2);
    case 8:  // in ROM, which nobody writes
      scene_.board.Poke(at, 0xFFFFF000, 8);
      return scene_.board.Poke(at + 8, choices_.OneIn(2) ? 16 : 4097, 4);
    default:  // any entry
      scene_.board.Poke(at, choices_.Take(8), 8);
      return scene_.board.Poke(at + 8, choices_.Take(8), 8);
  }
}

void HostileDriver::Offer(unsigned queue, uint16_t head) {
  const virtio::SplitQueue::Layout& layout = queues_[queue];
  uint16_t* index =
      reinterpret_cast<uint16_t*>(scene_.board.memory().Ram(layout.driver + 2, sizeof(uint16_t)));
  const uint16_t old = __atomic_load_n(index, __ATOMIC_RELAXED);
  scene_.board.Poke(layout.driver.value + 4 + 2 * uint64_t(old & (layout.size - 1)), head, 2);
  __atomic_store_n(index, static_cast<uint16_t>(old + 1), __ATOMIC_RELEASE);
}

void HostileDriver::OfferChain() {
  const auto status = function_.device().status();
  const bool runs = status.Has(virtio::Status::DRIVER_OK) &&
                    !status.Has(virtio::Status::DEVICE_NEEDS_RESET) && function_.is_bus_master();
  if (!runs && choices_.OneIn(4)) Begin();
  const unsigned queue = SomeQueue();
  const virtio::SplitQueue::Layout& layout = queues_[queue];
  if (layout.size == 0) return Begin();
  const std::vector<Piece> pieces = LayOut(scene_.victim.Compose(queue, choices_));
  const auto first = static_cast<unsigned>(choices_.Below(layout.size));
  uint64_t table = layout.descriptors.value;
  unsigned entries = layout.size, start = first;
  if (choices_.OneIn(3)) {
    const Piece indirect{PlaceFor(kPage),
                         static_cast<uint32_t>(pieces.size() * virtio::ring::kDescriptorSize),
                         false};
    Describe(table, first, indirect, kIndirect, 0);
    table = indirect.address;
    entries = static_cast<unsigned>(pieces.size());
    start = 0;
  }
  for (size_t i = 0; i < pieces.size(); ++i) {
    const bool last = i + 1 == pieces.size();
    const auto flags =
        static_cast<uint16_t>((pieces[i].writable ? kWrite : 0) | (last ? 0 : kNext));
    Describe(table, static_cast<unsigned>(start + i) % entries, pieces[i], flags,
             static_cast<uint16_t>((start + i + 1) % entries));
  }
  if (choices_.OneIn(24)) Spoil(table, start, pieces.size(), entries);
  if (choices_.OneIn(2)) {  // it wants to be interrupted, or not [VIRTIO 1.2] 2.7.10
    const uint64_t used_event = layout.driver.value + 4 + 2 * uint64_t{layout.size};
    scene_.board.Poke(used_event, UsedIndex(queue) + choices_.Below(2), 2);
    scene_.board.Poke(layout.driver.value, choices_.Below(2), 2);
  }
  Offer(queue, static_cast<uint16_t>(choices_.OneIn(64) ? SomeValue() : first));
  ++scene_.chains;
  if (!choices_.OneIn(4)) Ring(queue);
  if (choices_.OneIn(2)) LetItWork(queue);
}

// Its threads are slower than we: gives them some time, but not all that they need.
void HostileDriver::LetItWork(unsigned queue) {
  const uint16_t before = UsedIndex(queue);
  for (unsigned i = 0; i < kMostNaps && UsedIndex(queue) == before; ++i) {
    std::this_thread::sleep_for(std::chrono::microseconds(1));
  }
}

uint16_t HostileDriver::UsedIndex(unsigned queue) const {
  if (queues_[queue].size == 0) return 0;
  const auto* index = reinterpret_cast<const uint16_t*>(
      scene_.board.memory().Ram(queues_[queue].device + 2, sizeof(uint16_t)));
  return __atomic_load_n(index, __ATOMIC_ACQUIRE);
}

void HostileDriver::BreakIndex() {
  const virtio::SplitQueue::Layout& layout = queues_[SomeQueue()];
  if (layout.size == 0) return;
  const auto jump = choices_.OneOf(std::array<uint16_t, 6>{
      0xFFFF, layout.size, static_cast<uint16_t>(layout.size + 1), 0x8000, 0x7FFF, 0});
  uint16_t* index =
      reinterpret_cast<uint16_t*>(scene_.board.memory().Ram(layout.driver + 2, sizeof(uint16_t)));
  const uint16_t old = __atomic_load_n(index, __ATOMIC_RELAXED);
  __atomic_store_n(index, static_cast<uint16_t>(old + jump), __ATOMIC_RELEASE);
  Ring(SomeQueue());
}

// Any bytes of the rings, the device's own too.
void HostileDriver::PokeRings() {
  const virtio::SplitQueue::Layout& layout = queues_[SomeQueue()];
  if (layout.size == 0) return;
  const uint64_t size = layout.size;
  switch (choices_.Below(3)) {
    case 0:
      return scene_.board.Poke(layout.descriptors.value + choices_.Below(16 * size), SomeValue(),
                               2);
    case 1:
      return scene_.board.Poke(layout.driver.value + choices_.Below(6 + 2 * size), SomeValue(), 1);
    default:
      return scene_.board.Poke(layout.device.value + choices_.Below(6 + 8 * size), SomeValue(), 2);
  }
}

// While the device may be at work with them.
void HostileDriver::ChangeBuffers() {
  for (unsigned i = 0; i < 8; ++i) {
    const uint64_t address = PlaceFor(kPage) + choices_.Below(64);
    scene_.board.Poke(address, SomeValue(), 8);
  }
}

}  // namespace hostile
