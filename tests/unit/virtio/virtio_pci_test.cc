// The modern PCI interface: registers, negotiation, interrupts, resets, saved state.
#include "virtio/virtio_pci.h"

#include <catch2/catch.hpp>
#include <map>
#include <thread>

#include "tests/unit/virtio/blk_rig.h"

namespace virtio {
namespace {

constexpr auto kVersion1 = static_cast<uint64_t>(Feature::VERSION_1);
constexpr uint64_t kIsrAddress = BlkRig::kRegisters + VirtioPci::kIsr;
enum : uint32_t { kIn = 0, kOut = 1 };

std::map<unsigned, unsigned> FindParts(BlkRig& r) {
  std::map<unsigned, unsigned> parts;
  for (auto at = static_cast<unsigned>(r.GetConfig(0x34, 1)); at != 0;
       at = static_cast<unsigned>(r.GetConfig(at + 1, 1))) {
    if (r.GetConfig(at, 1) == 9) parts[static_cast<unsigned>(r.GetConfig(at + 3, 1))] = at;
  }
  return parts;
}

// One request on queue 0, without waiting for it. Each has its own place for data and result.
void OfferRead(BlkRig& r, uint16_t first) {
  r.PutHeader(kIn, 0);
  r.drivers[0].Offer(r.drivers[0].Chain(first, {{BlkRig::kHeader, 16, false},
                                                {BlkRig::kData + 0x1000u * first, 512, true},
                                                {BlkRig::kResult + first, 1, true}}));
  r.Kick();
  r.blk.Work();
}

}  // namespace

TEST_CASE("A driver finds the parts of the interface by capabilities",
          "[virtio]") {  // [VIRTIO 1.2] 4.1.2, 4.1.4
  BlkRig r;
  CHECK(r.GetConfig(0, 4) == 0x1042'1AF4);
  CHECK(r.GetConfig(8, 1) == 1);
  CHECK(r.GetConfig(0x2E, 2) >= 0x40);
  auto parts = FindParts(r);
  REQUIRE(parts.size() == 5);
  for (const auto& [type, length] :
       {std::pair{1u, 0x38u}, {2u, 8u}, {3u, 1u}, {4u, 0x3Cu}, {5u, 0u}}) {
    INFO(type);
    const unsigned at = parts[type];
    REQUIRE(at != 0);
    CHECK(r.GetConfig(at + 2, 1) == (type == 2 || type == 5 ? 0x14 : 0x10));
    CHECK(r.GetConfig(at + 4, 1) == 0);
    CHECK(r.GetConfig(at + 12, 4) == length);
    CHECK(r.GetConfig(at + 8, 4) + length <= VirtioPci::kBarSize);
    CHECK(r.GetConfig(at + 8, 4) % 4 == 0);
  }
  CHECK(r.GetConfig(parts[2] + 16, 4) == 4);
  CHECK(r.FindMsix() != 0);
  CHECK(r.GetConfig(r.FindMsix() + 2, 2) == 2);  // three vectors
}

TEST_CASE("Features are accepted as a whole or not at all", "[virtio]") {  // 2.2, 3.1.1
  BlkRig r;
  const uint64_t offered = r.Offered();
  CHECK((offered & kAllRingFeatures) == kAllRingFeatures);
  const auto agreed = [&](uint64_t features) {
    r.SetStatus(0);
    r.SetStatus(3);
    r.Accept(features);
    r.SetStatus(0xB);
    return (r.status() & 8) != 0;
  };
  CHECK(agreed(offered));
  CHECK(agreed(kVersion1));
  CHECK_FALSE(agreed(offered & ~kVersion1));
  CHECK_FALSE(agreed(kVersion1 | 1));
  CHECK_FALSE(agreed(kVersion1 | uint64_t{1} << 63));
  r.SetStatus(0xF);  // without FEATURES_OK nothing starts
  CHECK((r.status() & 0xC) == 0);
  REQUIRE(agreed(kVersion1));
  r.Accept(offered);  // too late
  r.Set(Common::driver_feature_select, 0, 4);
  CHECK(r.Get(Common::driver_feature, 4) == 0);
  r.Set(Common::driver_feature_select, 1, 4);
  CHECK(r.Get(Common::driver_feature, 4) == 1);
  r.Set(Common::device_feature_select, 2, 4);
  CHECK(r.Get(Common::device_feature, 4) == 0);
  r.SetStatus(0x1);  // bits go only by a reset
  CHECK(r.status() == 0xB);
  r.SetStatus(0x40);  // the device's own
  CHECK(r.status() == 0xB);
}

TEST_CASE("Queues are set up by their registers", "[virtio]") {  // 4.1.4.3, 4.1.5.1.3
  BlkRig r;
  CHECK(r.Get(Common::num_queues, 2) == 2);
  r.SetStatus(3);
  r.Accept(kVersion1);
  r.SetStatus(0xB);
  for (unsigned queue : {0u, 1u}) {
    r.Set(Common::queue_select, queue, 2);
    CHECK(r.Get(Common::queue_size, 2) == 256);
    CHECK(r.Get(Common::queue_enable, 2) == 0);
    CHECK(r.Get(Common::queue_notify_off, 2) == queue);
  }
  r.Set(Common::queue_select, 2, 2);
  CHECK(r.Get(Common::queue_size, 2) == 0);  // there is none
  CHECK(r.Get(Common::queue_msix_vector, 2) == 0xFFFF);
  r.Set(Common::queue_enable, 1, 2);
  r.Set(Common::queue_desc, 0x1000, 8);
  CHECK(r.Get(Common::queue_desc, 8) == 0);
  CHECK(r.status() == 0xB);

  r.Set(Common::queue_select, 1, 2);
  r.Set(Common::queue_desc, 0x1'0000'2000, 8);
  CHECK(r.Get(Common::queue_desc, 8) == 0x1'0000'2000);
  r.Write(BlkRig::kRegisters + 0x24, 0, 4);  // the upper half alone
  CHECK(r.Get(Common::queue_desc, 8) == 0x2000);
  r.SetUpQueue(1, r.drivers[1].layout());
  CHECK(r.Get(Common::queue_enable, 2) == 1);
  r.Set(Common::queue_size, 4, 2);  // too late
  CHECK(r.Get(Common::queue_size, 2) == 16);
  r.Set(Common::queue_enable, 0, 2);
  CHECK(r.Get(Common::queue_enable, 2) == 1);

  r.SetStatus(0);
  r.Set(Common::queue_select, 1, 2);
  CHECK(r.Get(Common::queue_size, 2) == 256);
  CHECK(r.Get(Common::queue_enable, 2) == 0);
  CHECK(r.Get(Common::queue_desc, 8) == 0);
}

TEST_CASE("Rings where none can be need a reset", "[virtio]") {
  using vmm::GuestPhys;
  const SplitQueue::Layout cases[] = {
      {16, GuestPhys(BlkRig::kRam), GuestPhys(0x11000), GuestPhys(0x12000)},
      {16, GuestPhys(0x10001), GuestPhys(0x11000), GuestPhys(0x12000)},
      {512, GuestPhys(0x10000), GuestPhys(0x14000), GuestPhys(0x18000)},
      {3, GuestPhys(0x10000), GuestPhys(0x14000), GuestPhys(0x18000)},
      {0, GuestPhys(0x10000), GuestPhys(0x14000), GuestPhys(0x18000)},
  };
  for (const SplitQueue::Layout& layout : cases) {
    BlkRig r;
    r.SetStatus(3);
    r.Accept(kVersion1);
    r.SetStatus(0xB);
    r.SetUpQueue(0, layout);
    CHECK(r.status() == 0x4B);
    CHECK(r.Get(Common::queue_enable, 2) == 0);
    r.SetStatus(0xF);
    r.Kick();
    r.blk.Work();
    r.Start();
  }
}

TEST_CASE("A vector that doesn't exist reads back as none", "[virtio]") {  // 4.1.5.1.2.1
  BlkRig r;
  CHECK(r.Get(Common::config_msix_vector, 2) == 0xFFFF);
  r.Set(Common::config_msix_vector, 2, 2);
  CHECK(r.Get(Common::config_msix_vector, 2) == 2);
  r.Set(Common::config_msix_vector, 3, 2);
  CHECK(r.Get(Common::config_msix_vector, 2) == 0xFFFF);
  r.Set(Common::queue_msix_vector, 1, 2);
  CHECK(r.Get(Common::queue_msix_vector, 2) == 1);
  r.Set(Common::queue_msix_vector, 0x100, 2);
  CHECK(r.Get(Common::queue_msix_vector, 2) == 0xFFFF);
}

TEST_CASE("Without messages the pin rises, until the ISR is read", "[virtio]") {  // 4.1.4.5
  BlkRig r;
  r.Start();
  REQUIRE(r.Ask(kIn, 0, 512, false).result == 0);
  CHECK(r.pin.high);
  CHECK(r.Read(kIsrAddress, 1) == 1);
  CHECK_FALSE(r.pin.high);
  CHECK(r.Read(kIsrAddress, 1) == 0);
  r.drivers[0].Offer(99);  // the ring breaks
  r.Kick();
  r.blk.Work();
  CHECK(r.status() == 0x4F);
  CHECK(r.pin.high);
  CHECK(r.Read(kIsrAddress, 1) == 2);
  r.drivers[1].Offer(99);
  r.Kick(1);
  r.blk.Work();
  CHECK_FALSE(r.pin.high);  // it was told once
}

TEST_CASE("With messages each queue has its own, and the ISR none", "[virtio]") {
  BlkRig r;
  r.Start(kAllRingFeatures, true);
  REQUIRE(r.Ask(kIn, 0, 512, false, 1).result == 0);
  CHECK(r.messages.Take() == std::vector<uint32_t>{0x42});
  REQUIRE(r.Ask(kIn, 0, 512, false, 0).result == 0);
  CHECK(r.messages.Take() == std::vector<uint32_t>{0x41});
  CHECK_FALSE(r.pin.high);
  CHECK(r.Read(kIsrAddress, 1) == 0);
  r.drivers[0].SetUsedEvent(100);  // not before
  REQUIRE(r.Ask(kIn, 0, 512, false, 0).result == 0);
  CHECK(r.messages.Take().empty());
}

TEST_CASE("The window in configuration space reaches the registers", "[virtio]") {  // 4.1.4.9
  BlkRig r;
  const unsigned window = FindParts(r)[5];
  const auto point = [&](uint32_t offset, uint32_t length, unsigned bar = 0) {
    r.SetConfig(window + 4, bar, 1);
    r.SetConfig(window + 8, offset, 4);
    r.SetConfig(window + 12, length, 4);
  };
  point(0x12, 2);
  CHECK(r.GetConfig(window + 16, 2) == 2);  // num_queues
  point(0x14, 1);
  r.SetConfig(window + 16, 3, 1);
  CHECK(r.status() == 3);
  CHECK(r.GetConfig(window + 16, 1) == 3);
  point(VirtioPci::kDevice, 4);
  CHECK(r.GetConfig(window + 16, 4) == BlkRig::kDiskBytes / 512);
  // Not as wide as it says, another BAR, an odd place, outside: nothing happens.
  r.SetConfig(window + 16, 0, 1);
  for (const auto& [offset, length, bar] : {std::tuple{0x14u, 4u, 0u},
                                            {0x14u, 1u, 1u},
                                            {0x15u, 2u, 0u},
                                            {0x14u, 0u, 0u},
                                            {0x14u, 0xFFFFFFFFu, 0u},
                                            {0xFFFFFFFCu, 4u, 0u},
                                            {0x4000u, 1u, 0u}}) {
    point(offset, length, bar);
    for (const size_t size : {1, 2, 4}) {
      r.SetConfig(window + 16, 0, size);
      r.GetConfig(window + 16, size);
    }
    CHECK(r.status() == 3);
  }
}

TEST_CASE("No chain is taken before DRIVER_OK or without leave to access memory",
          "[virtio]") {  // 2.1.2, [PCI] 6.2.2
  BlkRig r;
  r.SetStatus(3);
  r.Accept(kVersion1);
  r.SetStatus(0xB);
  r.SetUpQueue(0, r.drivers[0].layout());
  OfferRead(r, 0);
  r.disk.Drain();
  CHECK(r.drivers[0].used_index() == 0);
  r.SetConfig(vmm::pci::kCommand, BlkRig::kMemory, 2);
  r.SetStatus(0xF);
  r.blk.Work();
  r.disk.Drain();
  CHECK(r.drivers[0].used_index() == 0);
  r.SetConfig(vmm::pci::kCommand, BlkRig::kMemory | BlkRig::kMaster, 2);
  r.blk.Work();
  r.disk.Drain();
  CHECK(r.drivers[0].used_index() == 1);
}

TEST_CASE("A reset in the middle of a request ends when the request does, which leaves no trace",
          "[virtio][threads]") {  // 2.4
  BlkRig r;
  r.Start(kAllRingFeatures, true);
  r.file->Close();
  OfferRead(r, 0);
  OfferRead(r, 3);
  r.file->AwaitWaiting(2);
  const uint16_t used = r.drivers[0].used_index();
  r.SetStatus(0);
  CHECK(r.status() == 0xF);  // not yet
  r.SetStatus(1);            // goes by
  r.SetUpQueue(0, r.drivers[0].layout());
  CHECK(r.status() == 0xF);
  r.file->Open();
  r.disk.Drain();
  CHECK(r.status() == 0);
  CHECK(r.drivers[0].used_index() == used);
  CHECK(r.messages.Take().empty());
  r.Start(kAllRingFeatures, true);
  CHECK(r.Ask(kIn, 0, 512, false).result == 0);
}

TEST_CASE("A ring that breaks while requests are under way lets them end", "[virtio][threads]") {
  BlkRig r;
  r.Start();
  r.file->Close();
  OfferRead(r, 0);
  r.file->AwaitWaiting(1);
  r.drivers[0].Offer(1000);
  r.Kick();
  r.blk.Work();
  CHECK(r.status() == 0x4F);
  r.file->Open();
  r.disk.Drain();
  CHECK(r.drivers[0].used_index() == 0);
  r.Start();
  CHECK(r.Ask(kIn, 0, 512, false).result == 0);
}

TEST_CASE("A paused disk has nothing under way and takes up what was offered meanwhile",
          "[virtio][threads]") {
  BlkRig r;
  r.Start();
  r.file->Close();
  OfferRead(r, 0);
  r.file->AwaitWaiting(1);
  std::thread opener([&] { r.file->Open(); });
  r.blk.Pause();
  opener.join();
  CHECK(r.drivers[0].used_index() == 1);
  OfferRead(r, 3);
  r.disk.Drain();
  CHECK(r.drivers[0].used_index() == 1);
  r.blk.Resume();
  r.blk.Work();
  r.disk.Drain();
  CHECK(r.drivers[0].used_index() == 2);
}

TEST_CASE("A saved disk goes on where it was, with what was offered and not taken",
          "[virtio][threads]") {
  BlkRig a;
  a.Start(kAllRingFeatures, true);
  for (int i = 0; i < 5; ++i) REQUIRE(a.Ask(kOut, 3, 512, true).result == 0);
  a.messages.Take();
  a.drivers[0].SetUsedEvent(5);
  a.file->Close();
  OfferRead(a, 0);  // under way
  a.file->AwaitWaiting(1);
  std::thread opener([&] { a.file->Open(); });
  a.blk.Pause();
  opener.join();
  CHECK(a.messages.Take() == std::vector<uint32_t>{0x41});
  a.drivers[0].SetUsedEvent(6);
  OfferRead(a, 3);  // not taken
  const VirtioPciState saved = a.function.SaveState();
  const VirtioBlkState disk = a.blk.SaveDisk();

  BlkRig b;
  REQUIRE(b.memory.Write(vmm::GuestPhys(0),
                         {a.memory.Ram(vmm::GuestPhys(0), BlkRig::kRam), BlkRig::kRam}));
  b.drivers = {RingDriver(b.memory, 0x10000, 16), RingDriver(b.memory, 0x20000, 16)};
  b.blk.Pause();
  REQUIRE(b.blk.LoadDisk(disk));
  REQUIRE(b.function.LoadState(saved));
  CHECK(b.function.SaveState() == saved);
  CHECK(b.status() == 0xF);
  CHECK(b.drivers[0].used_index() == 6);
  b.blk.Resume();
  b.blk.Work();
  b.disk.Drain();
  CHECK(b.drivers[0].used_index() == 7);
  CHECK(b.messages.Take() == std::vector<uint32_t>{0x41});
}

TEST_CASE("A saved state that can't be is refused", "[virtio]") {
  BlkRig r;
  r.Start();
  r.blk.Pause();
  const VirtioPciState good = r.function.SaveState();
  const auto refused = [&](auto damage) {
    VirtioPciState bad = good;
    damage(bad);
    const auto loaded = r.function.LoadState(bad);
    return !loaded && loaded.error().code == vmm::ExitCode::kConfigInvalid;
  };
  CHECK(refused([](auto& s) { s.version = 2; }));
  CHECK(refused([](auto& s) { s.isr = 4; }));
  CHECK(refused([](auto& s) { s.config_vector = 3; }));
  CHECK(refused([](auto& s) { s.queue_vectors[7] = 0x80; }));
  CHECK(refused([](auto& s) { s.device.version = 9; }));
  CHECK(refused([](auto& s) { s.device.status = vmm::BitRegister<Status>(0x1F); }));
  CHECK(refused([](auto& s) { s.device.status = vmm::BitRegister<Status>(0x04); }));
  CHECK(refused([](auto& s) { s.device.driver_features = 0; }));
  CHECK(refused([](auto& s) { s.device.driver_features |= uint64_t{1} << 50; }));
  CHECK(refused([](auto& s) { s.device.queues[0].size = 7; }));
  CHECK(refused([](auto& s) { s.device.queues[0].size = 1024; }));
  CHECK(refused([](auto& s) { s.device.queues[0].device = BlkRig::kRam; }));
  CHECK(refused([](auto& s) { s.device.queues[5].enabled = true; }));
  CHECK(refused([](auto& s) { s.endpoint.interrupts.pending = 0x100; }));
  CHECK(r.function.LoadState(good));
  VirtioBlkState disk = r.blk.SaveDisk();
  disk.capacity += 1;
  CHECK_FALSE(r.blk.LoadDisk(disk));
}

TEST_CASE("A reset of the machine takes everything back", "[virtio]") {
  BlkRig r;
  r.Start(kAllRingFeatures, true);
  REQUIRE(r.Ask(kIn, 0, 512, false).result == 0);
  r.blk.Pause();
  r.function.PowerOnReset();
  r.blk.Resume();
  CHECK(r.GetConfig(vmm::pci::kCommand, 2) == BlkRig::kMemory);
  CHECK(r.status() == 0);
  CHECK(r.Get(Common::config_msix_vector, 2) == 0xFFFF);
  CHECK(r.GetConfig(r.FindMsix() + 2, 2) == 2);
  r.SetConfig(vmm::pci::kCommand, BlkRig::kMemory | BlkRig::kMaster, 2);
  r.Start();
  CHECK(r.Ask(kIn, 0, 512, false).result == 0);
}

// Registers in any order and size, rings with plausible and impossible contents, resets and saves
// in between, while requests end on threads of the disk.
TEST_CASE("A hostile driver gets nowhere", "[virtio]") {
  BlkRig r;
  fakes::Random random(4711);
  unsigned starts = 0, broken = 0;
  uint64_t answered = 0;
  constexpr unsigned kFields[] = {0x00, 0x04, 0x08, 0x0C, 0x10, 0x14, 0x16,
                                  0x18, 0x1A, 0x1C, 0x20, 0x24, 0x28, 0x30};
  const auto restart = [&] {
    r.SetStatus(0);
    while (r.status() != 0) std::this_thread::yield();
    r.SetConfig(vmm::pci::kCommand, BlkRig::kMemory | BlkRig::kMaster, 2);
    r.Start(random.Below(2) ? kAllRingFeatures : kVersion1, random.Below(2) != 0);
    ++starts;
  };
  restart();
  for (int i = 0; i < 200'000; ++i) {
    RingDriver& driver = r.drivers[random.Below(2)];
    switch (random.Below(10)) {
      case 0:
        r.Write(BlkRig::kRegisters + kFields[random.Below(std::size(kFields))], random.Next(),
                size_t{1} << random.Below(4));
        break;
      case 1:
        r.Read(BlkRig::kRegisters + random.Below(VirtioPci::kBarSize),
               size_t{1} << random.Below(4));
        break;
      case 2:
        if (random.Below(8) == 0) r.Write(BlkRig::kTables + random.Below(64), random.Next(), 4);
        break;
      case 3:
        if (random.Below(8) == 0) {
          r.SetConfig(static_cast<unsigned>(0x40 + random.Below(0x60)), random.Next(), 1);
        }
        break;
      case 4:
        // Anything in the rings, now and then.
        if (random.Below(4) == 0) {
          driver.Set<uint16_t>(driver.layout().descriptors.value + 2 * random.Below(128),
                               static_cast<uint16_t>(random.Next() >> 20));
        }
        if (random.Below(64) == 0) driver.SetIndex(static_cast<uint16_t>(random.Next()));
        break;
      default: {
        r.PutHeader(static_cast<uint32_t>(random.Below(16)), random.Below(4096));
        const auto at = static_cast<uint16_t>(3 * random.Below(5));
        driver.Offer(driver.Chain(
            at,
            {{BlkRig::kHeader, static_cast<uint32_t>(random.Below(16) ? 16 : random.Below(64)),
              false},
             {BlkRig::kData, static_cast<uint32_t>(512 * random.Below(8)), random.Below(2) != 0},
             {BlkRig::kResult, 1, true}}));
        r.Write(BlkRig::kRegisters + VirtioPci::kNotify + 4 * random.Below(4), 0, 2);
      }
    }
    if (random.Below(3) == 0) r.blk.Work();
    if (random.Below(50) == 0) r.disk.Drain();
    const uint8_t status = r.status();
    if ((status & 0x40) != 0) ++broken;
    if (status != 0xF || random.Below(500) == 0) {
      answered += driver.used_index();
      if (random.Below(4) == 0) {
        r.blk.Pause();
        const VirtioPciState saved = r.function.SaveState();
        CHECK(r.function.LoadState(saved));
        r.blk.Resume();
      }
      restart();
    }
  }
  CHECK(starts > 500);
  CHECK(broken > 200);
  CHECK(answered > 1000);
}

}  // namespace virtio
