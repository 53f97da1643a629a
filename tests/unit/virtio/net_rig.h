// A virtio network card in a PCI slot on a wire of the test's, with a driver's view of it.
#pragma once

#include <array>
#include <catch2/catch.hpp>
#include <vector>

#include "tests/support/fake_wire.h"
#include "tests/unit/support/fakes.h"
#include "tests/unit/virtio/blk_rig.h"
#include "tests/unit/virtio/ring_driver.h"
#include "virtio/virtio_net.h"
#include "virtio/virtio_pci.h"
#include "vmm/core/base/bytes.h"

namespace virtio {

struct NetRig {
  static constexpr uint64_t kRam = 4 << 20, kRegisters = 0xC0000000, kTables = 0xC0004000;
  static constexpr uint64_t kReceiveAt = 0x100000, kSendAt = 0x200000, kCommandAt = 0x300000;
  static constexpr uint16_t kEntries = 64;
  static constexpr uint64_t kAll = kAllRingFeatures | 1 << 0 | 1 << 1 | 1 << 5 | 1 << 7 | 1 << 8 |
                                   1 << 11 | 1 << 12 | 1 << 15 | 1 << 16 | 1 << 17 | 1 << 18 |
                                   1 << 21 | 1 << 23;

  explicit NetRig(const vmm::NetOffloads& takes = {},
                  VirtioNet::Options options = {.mac = {0x52, 1, 2, 3, 4, 5}})
      : wire(takes),
        net("net0", wire, options, {memory, writes}, [this] { ++rings; }),
        function(net, 0x020000, {decoder, pin, messages}) {
    vmm::PciAddressPlan plan;
    REQUIRE(function.AssignResources(plan, 11));
    const std::array<uint8_t, 2> command{6, 0};
    function.WriteConfig(vmm::pci::kCommand, command);
    for (unsigned i = 0; i < net::kQueues; ++i) drivers.push_back(NewDriver(i));
  }
  ~NetRig() { net.Pause(); }

  RingDriver NewDriver(unsigned i) {
    const uint16_t size = i == net::kControl ? 16 : kEntries;
    return RingDriver(memory, 0x10000 + 0x10000 * i, size);
  }
  uint64_t Read(uint64_t address, size_t size) {
    std::array<uint8_t, 8> data{};
    mmio.Read(address, std::span(data).first(size));
    return vmm::LoadLittleEndian(std::span(data).first(size));
  }
  void Write(uint64_t address, uint64_t value, size_t size) {
    std::array<uint8_t, 8> data{};
    vmm::StoreLittleEndian(std::span(data).first(size), value);
    mmio.Write(address, std::span<const uint8_t>(data).first(size));
  }
  uint64_t Config(unsigned offset, size_t size) {
    return Read(kRegisters + VirtioPci::kDevice + offset, size);
  }
  void Set(pci::Common field, uint64_t value, size_t size) {
    Write(kRegisters + static_cast<uint64_t>(field), value, size);
  }
  unsigned status() { return static_cast<unsigned>(Read(kRegisters + 0x14, 1)); }
  void SetStatus(unsigned value) { Set(pci::Common::device_status, value, 1); }

  // As a driver begins. 3.1.1
  void Start(uint64_t features = kAll) {
    for (const unsigned step : {0u, 1u, 3u}) SetStatus(step);
    for (const uint32_t half : {0u, 1u}) {
      Set(pci::Common::driver_feature_select, half, 4);
      Set(pci::Common::driver_feature, static_cast<uint32_t>(features >> (32 * half)), 4);
    }
    SetStatus(0xB);
    REQUIRE(status() == 0xB);
    for (unsigned i = 0; i < net::kQueues; ++i) {
      drivers[i] = NewDriver(i);
      const SplitQueue::Layout& layout = drivers[i].layout();
      std::memset(memory.Ram(layout.descriptors, 0x10000), 0, 0x10000);
      Set(pci::Common::queue_select, i, 2);
      Set(pci::Common::queue_size, layout.size, 2);
      Set(pci::Common::queue_desc, layout.descriptors.value, 8);
      Set(pci::Common::queue_driver, layout.driver.value, 8);
      Set(pci::Common::queue_device, layout.device.value, 8);
      Set(pci::Common::queue_enable, 1, 2);
    }
    SetStatus(0xF);
    REQUIRE(status() == 0xF);
    net.Work();
  }

  // Puts header and frame into guest memory in `pieces` buffers, and lets the card send it.
  void Send(const vmm::NetHeader& header, const std::vector<uint8_t>& frame) {
    drivers[1].Set(kSendAt, header);
    if (!frame.empty()) {
      std::memcpy(memory.Ram(vmm::GuestPhys(kSendAt + 0x100), frame.size()), frame.data(),
                  frame.size());
    }
    std::vector<RingDriver::Buffer> buffers = {{kSendAt, 12, false}};
    if (!frame.empty()) {
      buffers.push_back({kSendAt + 0x100, static_cast<uint32_t>(frame.size()), false});
    }
    drivers[1].Offer(drivers[1].Chain(0, buffers));
    net.Work();
  }
  // Offers `count` buffers of `bytes` to receive, from entry `first` on.
  void OfferBuffers(unsigned count, uint32_t bytes, unsigned first = 0) {
    for (unsigned i = first; i < first + count; ++i) {
      const auto entry = static_cast<uint16_t>(i % kEntries);
      drivers[0].Offer(
          drivers[0].Chain(entry, {{kReceiveAt + uint64_t{entry} * bytes, bytes, true}}));
    }
  }
  // What the card put into its receive ring from `first` on, header and frame of one frame.
  struct Received {
    vmm::NetHeader header;
    std::vector<uint8_t> bytes;
  };
  Received TakeReceived(uint16_t first, uint32_t buffer) {
    Received received{};
    std::vector<uint8_t> all;
    const auto append = [&](uint16_t index) {
      const auto [head, written] = drivers[0].Used(index);
      const uint8_t* from =
          memory.Ram(vmm::GuestPhys(kReceiveAt + uint64_t{head} * buffer), written);
      all.insert(all.end(), from, from + written);
    };
    append(first);
    std::memcpy(&received.header, all.data(), sizeof received.header);
    for (uint16_t i = 1; i < received.header.num_buffers; ++i)
      append(static_cast<uint16_t>(first + i));
    received.bytes.assign(all.begin() + 12, all.end());
    return received;
  }
  // The answer to a command, -1: none.
  int Command(const std::vector<uint8_t>& bytes) {
    RingDriver& driver = drivers[2];
    std::memcpy(memory.Ram(vmm::GuestPhys(kCommandAt), 64), bytes.data(), bytes.size());
    driver.Set<uint8_t>(kCommandAt + 64, 0xEE);
    const uint16_t before = driver.used_index();
    driver.Offer(driver.Chain(
        0, {{kCommandAt, static_cast<uint32_t>(bytes.size()), false}, {kCommandAt + 64, 1, true}}));
    net.Work();
    return driver.used_index() == before ? -1 : driver.Get<uint8_t>(kCommandAt + 64);
  }

  vmm::GuestMemory memory = std::move(vmm::GuestMemory::Create(kRam).value());
  NotedWrites writes;
  vmm::Bus ports{0x10000}, mmio{uint64_t{1} << 52};
  vmm::PciDecoder decoder{ports, mmio};
  fakes::FakeIrqLine pin;
  NotedMessages messages;
  unsigned rings = 0;
  vmm::FakeWire wire;
  VirtioNet net;
  VirtioPci function;
  std::vector<RingDriver> drivers;
};

inline std::vector<uint8_t> Bytes(size_t length, uint8_t first = 1) {
  std::vector<uint8_t> bytes(length);
  for (size_t i = 0; i < length; ++i) bytes[i] = static_cast<uint8_t>(first + i * 7);
  return bytes;
}

}  // namespace virtio
