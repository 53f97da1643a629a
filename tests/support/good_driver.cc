#include "tests/support/good_driver.h"

#include <cstring>
#include <thread>

#include "vmm/core/base/bytes.h"

namespace vmm {

using virtio::pci::Common;

namespace {

constexpr uint16_t kEntries = 16;
constexpr uint32_t kMemoryAndMaster = 6;

}  // namespace

bool Await(const std::function<bool()>& what) {
  const auto end = std::chrono::steady_clock::now() + kPatience;
  while (!what()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::microseconds(20));
  }
  return true;
}

GoodDriver::GoodDriver(VirtioBoard& board, virtio::VirtioPci& function)
    : board_(board), function_(function), seen_(function.device().queue_count()) {
  for (unsigned i = 0; i < config_.size(); ++i) config_[i] = Config(4 * i);
  for (unsigned i = 0; i < seen_.size(); ++i) {
    rings_.emplace_back(board_.memory(), RingAt(i), kEntries);
  }
}

uint32_t GoodDriver::Config(unsigned offset) const {
  std::array<uint8_t, 4> data{};
  function_.ReadConfig(static_cast<uint16_t>(offset), data);
  return static_cast<uint32_t>(LoadLittleEndian(data));
}

void GoodDriver::SetConfig(unsigned offset, uint32_t value, size_t size) const {
  std::array<uint8_t, 4> data{};
  StoreLittleEndian(data, value);
  function_.WriteConfig(static_cast<uint16_t>(offset), std::span<const uint8_t>(data).first(size));
}

void GoodDriver::Restore() {
  SetConfig(pci::kCommand, 0, 2);
  for (unsigned offset = pci::kBar0; offset < pci::kConfigSize; offset += 4) {
    SetConfig(offset, config_[offset / 4], 4);
  }
  SetConfig(pci::kCommand, kMemoryAndMaster, 2);
}

bool GoodDriver::Reset() {
  board_.SetField(Common::device_status, 0, 1);
  const auto status = VirtioBoard::kRegisters + static_cast<uint64_t>(Common::device_status);
  return Await([&] { return board_.Read(status, 1) == 0; });
}

bool GoodDriver::Begin(uint64_t features) {
  Restore();
  if (!Reset()) return false;
  std::vector<virtio::SplitQueue::Layout> layouts;
  for (unsigned i = 0; i < rings_.size(); ++i) {
    board_.Clear(RingAt(i), kRingBytes);
    rings_[i] = virtio::RingDriver(board_.memory(), RingAt(i), kEntries);
    layouts.push_back(rings_[i].layout());
    seen_[i] = 0;
  }
  board_.StartDriver(features, layouts);
  const auto status = VirtioBoard::kRegisters + static_cast<uint64_t>(Common::device_status);
  return board_.Read(status, 1) == 0xF;
}

void GoodDriver::Offer(unsigned queue, uint16_t first, const std::vector<Buffer>& buffers) {
  rings_[queue].Offer(rings_[queue].Chain(first, buffers));
  board_.Write(VirtioBoard::kRegisters + virtio::VirtioPci::kNotify +
                   uint64_t{virtio::VirtioPci::kNotifyMultiplier} * queue,
               queue, 2);
}

std::optional<std::pair<uint32_t, uint32_t>> GoodDriver::Returned(unsigned queue) {
  if (!Await([&] { return HasReturned(queue); })) return {};
  return rings_[queue].Used(seen_[queue]++);
}

std::optional<uint32_t> GoodDriver::Ask(unsigned queue, const std::vector<Buffer>& buffers) {
  Offer(queue, 0, buffers);
  const auto returned = Returned(queue);
  if (!returned || returned->first != 0) return {};
  return returned->second;
}

void GoodDriver::Put(uint64_t address, std::span<const uint8_t> bytes) const {
  std::memcpy(board_.memory().Ram(GuestPhys(address), bytes.size()), bytes.data(), bytes.size());
}

std::vector<uint8_t> GoodDriver::Take(uint64_t address, size_t bytes) const {
  const uint8_t* start = board_.memory().Ram(GuestPhys(address), bytes);
  return {start, start + bytes};
}

}  // namespace vmm
