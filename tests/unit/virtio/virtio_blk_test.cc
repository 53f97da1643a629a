// The block device, as a driver uses it and as none may.
#include "virtio/virtio_blk.h"

#include <catch2/catch.hpp>
#include <thread>

#include "tests/unit/virtio/blk_rig.h"

namespace virtio {
namespace {

using Answer = BlkRig::Answer;
enum : uint32_t { kIn = 0, kOut = 1, kFlush = 4, kGetId = 8, kDiscard = 11, kWriteZeroes = 13 };
enum : int { kOk = 0, kIoErr = 1, kUnsupported = 2, kNothing = -1 };

constexpr uint64_t kSectors = BlkRig::kDiskBytes / 512;

void Fill(BlkRig& rig, uint64_t address, size_t bytes, uint8_t first) {
  for (size_t i = 0; i < bytes; ++i) {
    rig.drivers[0].Set<uint8_t>(address + i, static_cast<uint8_t>(first + i * 7));
  }
}

bool Same(BlkRig& rig, uint64_t address, uint64_t on_disk, size_t bytes) {
  return std::memcmp(rig.memory.Ram(vmm::GuestPhys(address), bytes),
                     rig.file->file().bytes().data() + on_disk, bytes) == 0;
}

}  // namespace

TEST_CASE("The registers tell what the disk is", "[virtio]") {  // [VIRTIO 1.2] 5.2.4
  BlkRig r;
  const auto get = [&](unsigned at, size_t size) {
    return r.Read(BlkRig::kRegisters + VirtioPci::kDevice + at, size);
  };
  CHECK(get(0, 4) == kSectors);
  CHECK(get(4, 4) == 0);
  CHECK(get(8, 4) == VirtioBlk::kMaxSegment);
  CHECK(get(12, 4) == 254);
  CHECK(get(20, 4) == 512);
  CHECK(get(34, 2) == 2);
  CHECK(get(40, 4) == 1);
  CHECK(get(56, 1) == 1);
  CHECK(get(60, 8) == 0);
  CHECK(get(0x0FF9, 8) == 0);
  r.Write(BlkRig::kRegisters + VirtioPci::kDevice, 0, 4);
  CHECK(get(0, 4) == kSectors);
  CHECK((r.Offered() & 0xFFFFFF) ==
        (1u << 1 | 1u << 2 | 1u << 6 | 1u << 9 | 1u << 10 | 1u << 12 | 1u << 13 | 1u << 14));
}

TEST_CASE("What is written is read again, wherever its buffers begin and end", "[virtio]") {
  BlkRig r;
  r.Start();
  Fill(r, BlkRig::kData, 4096, 3);
  CHECK(r.Ask(kOut, 8, 4096, true) == Answer{kOk, 1});
  CHECK(Same(r, BlkRig::kData, 4096, 4096));
  CHECK(r.Ask(kIn, 9, 1024, false, 1) == Answer{kOk, 1025});
  CHECK(Same(r, BlkRig::kData, 9 * 512, 1024));
  CHECK(r.writes.Covers(BlkRig::kData, 1024));
  CHECK(r.writes.Covers(BlkRig::kResult, 1));

  // A header in three pieces, data at odd places, the result behind the data. 2.7.4
  r.PutHeader(kIn, 10);
  CHECK(r.Do({{BlkRig::kHeader, 1, false},
              {BlkRig::kHeader + 1, 10, false},
              {BlkRig::kHeader + 11, 5, false},
              {BlkRig::kData + 1, 3, true},
              {BlkRig::kData + 4, 509, true},
              {BlkRig::kResult, 1, true}}) == Answer{kOk, 513});
  CHECK(Same(r, BlkRig::kData + 1, 5120, 512));
  r.PutHeader(kOut, 20);
  r.memory.Read(vmm::GuestPhys(BlkRig::kHeader),
                {r.memory.Ram(vmm::GuestPhys(BlkRig::kData - 16), 16), 16});
  CHECK(r.Do({{BlkRig::kData - 16, 16 + 512, false}, {BlkRig::kResult, 1, true}}) ==
        Answer{kOk, 1});
  CHECK(Same(r, BlkRig::kData, 20 * 512, 512));
  // Data and result in one buffer.
  r.PutHeader(kIn, 20);
  r.drivers[0].Set<uint8_t>(BlkRig::kData + 512, 0xEE);
  CHECK(r.Do({{BlkRig::kHeader, 16, false}, {BlkRig::kData, 513, true}}).written == 513);
  CHECK(r.drivers[0].Get<uint8_t>(BlkRig::kData + 512) == kOk);
}

TEST_CASE("Nothing outside the disk is read or written", "[virtio]") {  // 5.2.6.1
  BlkRig r;
  r.Start();
  for (const uint32_t type : {kIn, kOut}) {
    const bool out = type == kOut;
    CHECK(r.Ask(type, kSectors - 1, 512, out).result == kOk);
    CHECK(r.Ask(type, kSectors - 1, 1024, out) == Answer{kIoErr, out ? 1u : 0u});
    CHECK(r.Ask(type, kSectors, 512, out).result == kIoErr);
    CHECK(r.Ask(type, ~uint64_t{0}, 512, out).result == kIoErr);
    CHECK(r.Ask(type, uint64_t{1} << 55, 512, out).result == kIoErr);
    CHECK(r.Ask(type, 0, 511, out).result == kIoErr);
    CHECK(r.Ask(type, 0, 0, out).result == kOk);
  }
  CHECK(r.file->size() == BlkRig::kDiskBytes);
  // As long as can be: more than the device allows, by buffers of all of RAM.
  std::vector<RingDriver::Buffer> all(13, {0, BlkRig::kRam, false});
  all.front() = {BlkRig::kHeader, 16, false};
  all.push_back({BlkRig::kResult, 1, true});
  r.PutHeader(kOut, 0);
  CHECK(r.Do(all).result == kIoErr);
}

TEST_CASE("A vCPU hands few small requests to the disk itself", "[virtio]") {
  BlkRig r;
  r.Start();
  r.rings = 0;
  const auto offer = [&](uint32_t bytes) {
    r.PutHeader(kIn, 0);
    RingDriver& driver = r.drivers[0];
    driver.Offer(driver.Chain(
        0,
        {{BlkRig::kHeader, 16, false}, {BlkRig::kData, bytes, true}, {BlkRig::kResult, 1, true}}));
    r.Kick();
  };
  offer(128 << 10);
  CHECK(r.rings == 0);
  r.disk.Drain();
  CHECK(r.drivers[0].used_index() == 1);
  offer((128 << 10) + 512);  // for another thread, to which it is left as it came
  CHECK(r.rings == 1);
  r.disk.Drain();
  CHECK(r.drivers[0].used_index() == 1);
  r.blk.Work();
  r.disk.Drain();
  CHECK(r.drivers[0].used_index() == 2);
  CHECK(r.drivers[0].Get<uint8_t>(BlkRig::kResult) == kOk);
  // Not while it is paused.
  r.blk.Pause();
  offer(512);
  CHECK(r.rings == 2);
  r.disk.Drain();
  CHECK(r.drivers[0].used_index() == 2);
  r.blk.Resume();
  r.blk.Work();
  r.disk.Drain();
  CHECK(r.drivers[0].used_index() == 3);
}

TEST_CASE("A flush reaches the file, and a failure the driver", "[virtio]") {  // 5.2.6.2
  BlkRig r;
  r.Start();
  const int before = r.file->file().syncs;
  r.PutHeader(kFlush, 0);
  CHECK(r.Do({{BlkRig::kHeader, 16, false}, {BlkRig::kResult, 1, true}}) == Answer{kOk, 1});
  CHECK(r.file->file().syncs == before + 1);
  r.file->error = EIO;
  r.PutHeader(kFlush, 0);
  CHECK(r.Do({{BlkRig::kHeader, 16, false}, {BlkRig::kResult, 1, true}}).result == kIoErr);
  CHECK(r.Ask(kOut, 0, 512, true) == Answer{kIoErr, 1});
  CHECK(r.Ask(kIn, 0, 512, false) == Answer{kIoErr, 0});
  r.file->error = 0;
  CHECK(r.Ask(kIn, 0, 512, false).result == kOk);
}

TEST_CASE("Discard and write zeroes take one range with the flags that they know",
          "[virtio]") {  // 5.2.6.1
  BlkRig r;
  r.Start();
  std::ranges::fill(r.file->file().bytes(), uint8_t{0xAA});
  const auto range = [&](uint32_t type, uint64_t sector, uint32_t sectors, uint32_t flags,
                         uint32_t bytes = 16) {
    r.drivers[0].Set<uint64_t>(BlkRig::kData, sector);
    r.drivers[0].Set<uint32_t>(BlkRig::kData + 8, sectors);
    r.drivers[0].Set<uint32_t>(BlkRig::kData + 12, flags);
    return r.Ask(type, 0, bytes, true).result;
  };
  CHECK(range(kWriteZeroes, 2, 3, 0) == kOk);
  CHECK(r.file->file().bytes()[2 * 512 - 1] == 0xAA);
  CHECK(r.file->file().bytes()[2 * 512] == 0);
  CHECK(r.file->file().bytes()[5 * 512 - 1] == 0);
  CHECK(r.file->file().bytes()[5 * 512] == 0xAA);
  CHECK(range(kWriteZeroes, 2, 3, 1) == kOk);
  CHECK(range(kDiscard, 8, 8, 0) == kOk);
  CHECK(r.file->zeroed == 3);
  CHECK(range(kDiscard, 8, 8, 1) == kUnsupported);
  CHECK(range(kWriteZeroes, 8, 8, 2) == kUnsupported);
  CHECK(range(kWriteZeroes, kSectors - 1, 2, 0) == kIoErr);
  CHECK(range(kDiscard, ~uint64_t{0}, 0xFFFFFFFF, 0) == kIoErr);
  CHECK(range(kDiscard, 0, 0, 0) == kOk);
  CHECK(range(kDiscard, 0, 1, 0, 8) == kIoErr);
  CHECK(range(kDiscard, 0, 1, 0, 32) == kIoErr);
  CHECK(r.file->zeroed == 3);
}

TEST_CASE("The serial number has 20 bytes, or as many as there is room for", "[virtio]") {
  BlkRig r;
  r.Start();
  CHECK(r.Ask(kGetId, 0, 20, false) == Answer{kOk, 21});
  CHECK(std::memcmp(r.memory.Ram(vmm::GuestPhys(BlkRig::kData), 20), "serial-1\0\0\0\0", 12) == 0);
  CHECK(r.Ask(kGetId, 0, 3, false) == Answer{kOk, 4});
  r.drivers[0].Set<uint8_t>(BlkRig::kData + 20, 0x55);
  CHECK(r.Ask(kGetId, 0, 100, false) == Answer{kOk, 20});
  CHECK(r.drivers[0].Get<uint8_t>(BlkRig::kData + 20) == 0x55);
}

TEST_CASE("A request of a kind that nobody knows is unsupported", "[virtio]") {
  BlkRig r;
  r.Start();
  for (const uint32_t type : {2u, 3u, 5u, 10u, 14u, 0x80000000u, ~0u}) {
    CHECK(r.Ask(type, 0, 512, false).result == kUnsupported);
  }
}

TEST_CASE("A read-only disk says so and refuses what would change it", "[virtio]") {
  BlkRig r({.queues = 1, .serial = "", .read_only = true});
  CHECK((r.Offered() & 0xFFFFFF) ==
        (1u << 1 | 1u << 2 | 1u << 5 | 1u << 6 | 1u << 9 | 1u << 10 | 1u << 12));
  r.Start();
  CHECK(r.Ask(kIn, 0, 512, false).result == kOk);
  CHECK(r.Ask(kOut, 0, 512, true).result == kIoErr);
  CHECK(r.Ask(kDiscard, 0, 16, true).result == kIoErr);
  CHECK(r.Ask(kWriteZeroes, 0, 16, true).result == kIoErr);
}

TEST_CASE("A request without header or result needs a reset, and nothing else does",
          "[virtio]") {  // 2.1.2
  const std::vector<std::vector<RingDriver::Buffer>> cases = {
      {{BlkRig::kHeader, 15, false}, {BlkRig::kResult, 1, true}},
      {{BlkRig::kHeader, 16, false}},
      {{BlkRig::kResult, 1, true}},
      {{BlkRig::kHeader, 16, false}, {BlkRig::kData, 0, true}},
  };
  for (const auto& buffers : cases) {
    BlkRig r;
    r.Start(kAllRingFeatures, true);
    r.PutHeader(kIn, 0);
    CHECK(r.Do(buffers).result == kNothing);
    CHECK(r.status() == 0x4F);
    CHECK(r.messages.Take() == std::vector<uint32_t>{0x40});  // the configuration's
    CHECK(r.Ask(kIn, 0, 512, false, 1).result == kNothing);   // the other queue stands as well
    r.Start(kAllRingFeatures, true);
    CHECK(r.Ask(kIn, 0, 512, false).result == kOk);
    CHECK(r.messages.Take() == std::vector<uint32_t>{0x41});
  }
}

TEST_CASE("A hundred requests at once on two queues all end", "[virtio][threads]") {
  BlkRig r;
  r.Start();
  std::atomic<bool> stop = false;
  std::thread worker([&] {
    while (!stop) {
      r.blk.Work();
      std::this_thread::yield();
    }
  });
  for (unsigned queue : {0u, 1u}) {
    RingDriver& driver = r.drivers[queue];
    // Each has its own header, data and result.
    const auto place = [&](unsigned slot) { return 0x200000 + 0x40000 * queue + 0x1000 * slot; };
    for (unsigned i = 0; i < 100; ++i) {
      const unsigned slot = i % 5;
      if (i >= 5) {
        while (static_cast<uint16_t>(i - driver.used_index()) >= 5) std::this_thread::yield();
        // The slot is free once all of the round before are.
        while (slot == 0 && driver.used_index() != i) std::this_thread::yield();
      }
      driver.Set<uint32_t>(place(slot), i % 2 ? kIn : kOut);
      driver.Set<uint64_t>(place(slot) + 8, i);
      driver.Set<uint8_t>(place(slot) + 16, 0xEE);
      driver.Offer(
          driver.Chain(static_cast<uint16_t>(3 * slot), {{place(slot), 16, false},
                                                         {place(slot) + 0x200, 512, i % 2 == 1},
                                                         {place(slot) + 16, 1, true}}));
      r.Write(BlkRig::kRegisters + VirtioPci::kNotify + 4 * queue, queue, 2);
    }
    while (driver.used_index() != 100) std::this_thread::yield();
    for (unsigned slot = 0; slot < 5; ++slot) CHECK(driver.Get<uint8_t>(place(slot) + 16) == kOk);
  }
  stop = true;
  worker.join();
}

}  // namespace virtio
