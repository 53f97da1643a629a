// The entropy device, as a driver uses it and as none may.
#include "virtio/virtio_rng.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <vector>

#include "tests/unit/support/fakes.h"
#include "tests/unit/virtio/ring_driver.h"
#include "virtio/virtio_pci.h"
#include "vmm/core/base/bytes.h"

namespace virtio {
namespace {

constexpr uint64_t kVersion1 = uint64_t{1} << 32;
constexpr uint64_t kBuffer = 0x100000;
constexpr unsigned kNeedsReset = 0x40;

// The registers without a transport: what PCI would pass on.
struct Rig final : VirtioDevice::Transport {
  Rig() { rng.SetTransport(*this); }
  ~Rig() override { rng.Pause(); }

  void InterruptQueue(unsigned queue) override {
    CHECK(queue == 0);
    ++interrupts;
  }
  void InterruptConfig() override { ++config_interrupts; }
  bool MayAccessMemory() const override { return true; }

  void Start() {
    rng.SetStatus(0);
    rng.SetStatus(3);
    rng.SetDriverFeatures(kVersion1);
    rng.SetStatus(0xB);
    driver = RingDriver(memory, 0x10000, 16);
    std::memset(memory.Ram(vmm::GuestPhys(0x10000), 0x10000), 0, 0x10000);
    rng.SetLayout(0, driver.layout());
    rng.EnableQueue(0);
    rng.SetStatus(0xF);
    REQUIRE(status() == 0xF);
  }
  unsigned status() const { return static_cast<unsigned>(rng.status().raw()); }
  // How many bytes a request was given; -1: it was not returned.
  int64_t Ask(const std::vector<RingDriver::Buffer>& buffers) {
    std::memset(memory.Ram(vmm::GuestPhys(kBuffer), 0x20000), 0, 0x20000);
    const uint16_t before = driver.used_index();
    driver.Offer(driver.Chain(0, buffers));
    rng.Kick(0);
    rng.Work();
    return driver.used_index() == before ? -1 : int64_t{driver.Used(before).second};
  }
  // The source counts: byte n of all that it gave is n + 1.
  bool Counted(uint64_t at, size_t bytes, uint8_t first) const {
    const uint8_t* data = memory.Ram(vmm::GuestPhys(at), bytes);
    for (size_t i = 0; i < bytes; ++i) {
      if (data[i] != static_cast<uint8_t>(first + i)) return false;
    }
    return true;
  }

  vmm::GuestMemory memory = std::move(vmm::GuestMemory::Create(4 << 20).value());
  NotedWrites writes;
  unsigned interrupts = 0, config_interrupts = 0, rings = 0;
  uint8_t next = 1;
  bool works = true;
  VirtioRng rng{"rng",
                [this](std::span<uint8_t> out) {
                  for (uint8_t& byte : out) byte = next++;
                  return works;
                },
                {memory, writes},
                [this] { ++rings; }};
  RingDriver driver{memory, 0x10000, 16};
};

}  // namespace

TEST_CASE("An entropy device has one queue, no features and no registers", "[virtio]") {
  const Rig r;  // [VIRTIO 1.2] 5.4.1 to 5.4.4
  CHECK(r.rng.type() == 4);
  CHECK(r.rng.queue_count() == 1);
  CHECK((r.rng.offered_features() & 0xFFFFFF) == 0);
  CHECK(r.rng.config_size() == 0);
  uint8_t bytes[4] = {1, 2, 3, 4};
  r.rng.ReadConfig(0, bytes);
  CHECK(std::ranges::all_of(bytes, [](uint8_t byte) { return byte == 0; }));
}

TEST_CASE("Buffers are filled and returned with their length", "[virtio]") {
  Rig r;  // [VIRTIO 1.2] 5.4.6
  r.Start();
  const unsigned at_start = r.rings;
  CHECK(r.Ask({{kBuffer, 64, true}}) == 64);
  CHECK(r.Counted(kBuffer, 64, 1));
  CHECK(r.driver.Get<uint8_t>(kBuffer + 64) == 0);
  CHECK(r.writes.Covers(kBuffer, 64));
  CHECK(r.interrupts == 1);
  // In pieces, and longer than the device takes from its source at once.
  CHECK(r.Ask({{kBuffer, 5000, true}, {kBuffer + 0x8000, 1, true}}) == 5001);
  CHECK(r.Counted(kBuffer, 5000, 65));
  CHECK(r.driver.Get<uint8_t>(kBuffer + 0x8000) == static_cast<uint8_t>(65 + 5000));
  CHECK(r.rings == at_start + 2);
}

TEST_CASE("Of a very long buffer a part is filled", "[virtio]") {
  Rig r;  // [VIRTIO 1.2] 5.4.6.2: one byte or more
  r.Start();
  CHECK(r.Ask({{kBuffer, 0x20000, true}}) == VirtioRng::kMostBytes);
  CHECK(r.Counted(kBuffer, VirtioRng::kMostBytes, 1));
  CHECK(r.driver.Get<uint8_t>(kBuffer + VirtioRng::kMostBytes) == 0);
}

TEST_CASE("Several requests are done in one run", "[virtio]") {
  Rig r;
  r.Start();
  for (uint16_t i = 0; i < 8; ++i)
    r.driver.Offer(r.driver.Chain(i, {{kBuffer + 16 * i, 16, true}}));
  r.rng.Work();
  CHECK(r.driver.used_index() == 8);
  CHECK(r.Counted(kBuffer, 128, 1));
}

TEST_CASE("A request that is none makes the device need a reset, and a reset mends it",
          "[virtio]") {
  // [VIRTIO 1.2] 5.4.6.1: no buffer that the device would read; 2.1.2
  const std::vector<std::vector<RingDriver::Buffer>> bad = {
      {{kBuffer, 16, false}},
      {{kBuffer, 16, false}, {kBuffer + 16, 16, true}},
  };
  for (const auto& buffers : bad) {
    Rig r;
    r.Start();
    CHECK(r.Ask(buffers) == -1);
    CHECK((r.status() & kNeedsReset) != 0);
    CHECK(r.config_interrupts == 1);
    CHECK(r.next == 1);  // nothing was taken for it
    r.Start();
    CHECK(r.Ask({{kBuffer, 16, true}}) == 16);
  }
  Rig r;
  r.Start();
  r.works = false;
  CHECK(r.Ask({{kBuffer, 16, true}}) == -1);
  CHECK((r.status() & kNeedsReset) != 0);
}

TEST_CASE("A paused entropy device waits, and its state goes on in another", "[virtio]") {
  Rig one;
  one.Start();
  CHECK(one.Ask({{kBuffer, 16, true}}) == 16);
  one.rng.Pause();
  CHECK(one.Ask({{kBuffer, 16, true}}) == -1);
  const VirtioDeviceState saved = one.rng.SaveCommon();

  Rig other;
  std::memcpy(other.memory.Ram(vmm::GuestPhys(0), 4 << 20),
              one.memory.Ram(vmm::GuestPhys(0), 4 << 20), 4 << 20);
  other.rng.Pause();
  REQUIRE(other.rng.LoadCommon(saved));
  CHECK(other.rng.SaveCommon() == saved);
  other.rng.Resume();
  CHECK(other.rings == 1);  // what was offered and not taken
  other.rng.Work();
  CHECK(other.driver.used_index() == 2);
  CHECK(other.Counted(kBuffer, 16, 1));
  one.rng.Resume();
  one.rng.Work();
  CHECK(one.driver.used_index() == 2);
}

TEST_CASE("In a PCI slot it has no part for registers that it has not", "[virtio]") {
  // [VIRTIO 1.2] 4.1.4.6.1; each other part is there once, and none is empty but the window.
  Rig r;
  vmm::Bus ports{0x10000}, mmio{uint64_t{1} << 52};
  vmm::PciDecoder decoder{ports, mmio};
  fakes::FakeIrqLine pin;
  struct Nobody final : vmm::MsiSink {
    void SendMsi(vmm::MsiMessage) override {}
  } messages;
  VirtioPci function(r.rng, 0xFF0000, {decoder, pin, messages});
  const auto get = [&](unsigned offset, unsigned size) {
    uint8_t bytes[4];
    function.ReadConfig(static_cast<uint16_t>(offset), std::span(bytes, size));
    return static_cast<uint32_t>(vmm::LoadLittleEndian(std::span(bytes, size)));
  };
  CHECK(get(vmm::pci::kDeviceId, 2) == 0x1044);
  std::vector<uint32_t> parts;
  for (uint32_t at = get(vmm::pci::kCapabilities, 1); at != 0; at = get(at + 1, 1)) {
    if (get(at, 1) != 9) continue;  // a vendor's
    parts.push_back(get(at + 3, 1));
    CHECK((get(at + 12, 4) != 0 || parts.back() == 5));
  }
  std::ranges::sort(parts);
  CHECK(parts == std::vector<uint32_t>{1, 2, 3, 5});
}

TEST_CASE("The host's bytes are random", "[virtio]") {
  std::vector<uint8_t> one(100'000), other(one.size());
  REQUIRE(VirtioRng::HostRandom(one));
  REQUIRE(VirtioRng::HostRandom(other));
  CHECK(one != other);
  // Each value about 390 times; 200 is ten standard deviations away.
  for (unsigned value = 0; value < 256; ++value) {
    CHECK(std::ranges::count(one, static_cast<uint8_t>(value)) > 200);
  }
}

}  // namespace virtio
