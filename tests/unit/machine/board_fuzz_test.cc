// The whole board against a guest that reads and writes at random, in any size, everywhere.
#include <catch2/catch.hpp>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "../support/fakes.h"
#include "tests/support/memory_file.h"
#include "vmm/core/base/bytes.h"
#include "vmm/core/block/raw_image.h"
#include "vmm/machine/board.h"
#include "vmm/snapshot/sections.h"

namespace {

using namespace fakes;

struct Rig {
  Rig() {
    config.testdev = true;
    config.rng = true;
    vmm::Board::Events events{[this] { ++happened; }, [this](std::string_view) { ++happened; },
                              [this](uint32_t) { ++happened; }, [this] { ++happened; },
                              [this](vmm::GuestPhys) { ++happened; }};
    board = std::move(vmm::Board::Create({config,
                                          memory,
                                          time,
                                          time,
                                          {&serial, &serial, &serial, &serial},
                                          debug,
                                          {{&disk, 2, "serial", false}},
                                          {},
                                          {},
                                          {{"", true, &serial}, {"port", false, &debug}}},
                                         std::move(events))
                          .value());
  }
  vmm::Config config;
  vmm::GuestMemory memory = std::move(vmm::GuestMemory::Create(4 * vmm::kMiB).value());
  FakeTime time;
  struct Sink final : vmm::CharBackend {
    void Write(std::span<const uint8_t> data) override { bytes += data.size(); }
    void ResumeInput() override {}
    void SetReceiver(vmm::CharReceiver*) override {}
    size_t bytes = 0;
  } serial, debug;
  int happened = 0;
  vmm::Disk disk{
      std::make_unique<vmm::RawImage>(
          std::make_unique<vmm::MemoryFile>(std::vector<uint8_t>(vmm::kMiB)), false, false),
      {.queues = 2, .limits = {}}};
  std::unique_ptr<vmm::Board> board;
};

}  // namespace

TEST_CASE("whatever a guest does to ports and memory, the board stands", "[machine]") {
  Rig rig;
  Random random(3);
  // Where devices are, most of the time.
  constexpr uint16_t kPorts[] = {0x20,  0x40,   0x60,   0x70,  0x92,  0xA0,  0xB2,
                                 0xE0,  0xE9,   0x2F8,  0x3F8, 0x402, 0x4D0, 0x505,
                                 0x600, 0x2000, 0xAFE0, 0xCF8, 0xCFC};
  constexpr uint64_t kMemory[] = {0xFEC00000, 0xFED00000, 0xFF000000, 0xC0000000, 0xC0001000,
                                  0xC0002000, 0xC0003000, 0xC0004000, 0xC0008000, 0xC000B000};
  uint8_t data[8];
  for (int i = 0; i < 200'000; ++i) {
    const size_t size = size_t{1} << random.Below(4);
    const std::span<uint8_t> bytes(data, size);
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random.Next() >> 32);
    const bool port = random.Below(2);
    const vmm::Bus& bus = port ? rig.board->ports() : rig.board->mmio();
    uint64_t address = 0;
    if (port) {
      address =
          (random.Below(8) ? kPorts[random.Below(std::size(kPorts))] : random.Below(0x10000)) +
          random.Below(8);
    } else {
      address = kMemory[random.Below(std::size(kMemory))] + random.Below(0x400) - random.Below(8);
    }
    if (random.Below(3)) {
      bus.Write(address, bytes);
    } else {
      bus.Read(address, bytes);
    }
    if (random.Below(64) == 0) rig.time.Advance(vmm::Nanoseconds(random.Below(200'000)));
  }
  CHECK(rig.debug.bytes > 0);
  CHECK(rig.happened > 0);
  rig.board->Reset();
  // As after power-on: the HPET stands still, A20 is open.
  rig.board->mmio().Read(0xFED00010, {data, 4});
  CHECK(vmm::LoadLittleEndian({data, 4}) == 0);
  rig.board->ports().Read(0x92, {data, 1});
  CHECK(data[0] == 0x02);
  rig.board->mmio().Read(0xC0000014, {data, 1});  // the disk's status, where its BAR was at first
  CHECK(data[0] == 0);
}

TEST_CASE("a board with a disk is saved as a whole, and another one goes on from there",
          "[machine]") {
  Rig one, other;
  const uint8_t acknowledge = 3;
  one.board->mmio().Write(0xC0000014, {&acknowledge, 1});
  one.board->PauseDevices();
  vmm::Sections saved;
  one.board->SaveState(saved);
  REQUIRE(other.board->LoadInterruptControllers(saved));
  REQUIRE(other.board->LoadDevices(saved));
  CHECK(saved.CheckAllTaken());
  uint8_t status = 0;
  other.board->mmio().Read(0xC0000014, {&status, 1});
  CHECK(status == 3);
}

TEST_CASE("no interrupt reaches a processor before the guest has programmed a controller",
          "[machine]") {
  Rig rig;
  // Every source at once: the timer, the RTC, the HPET, a serial port, the test device's lines.
  const auto out = [&](uint16_t port, uint8_t value) {
    rig.board->ports().Write(port, {&value, 1});
  };
  const auto put = [&](uint64_t address, uint32_t value) {
    uint8_t bytes[4];
    vmm::StoreLittleEndian(bytes, value);
    rig.board->mmio().Write(address, bytes);
  };
  out(0x43, 0x34);
  out(0x40, 0);
  out(0x40, 4);
  out(0x70, 0x0B);
  out(0x71, 0x52);
  put(0xFED00100, 0x2804);  // edge, pin 20
  put(0xFED00108, 1000);
  put(0xFED00010, 1);
  out(0x3FC, 8);
  out(0x3F9, 2);
  for (uint16_t line = 0; line < 24; ++line) out(static_cast<uint16_t>(0x2000 + line), 1);
  rig.time.Advance(std::chrono::seconds(2));
  CHECK_FALSE(rig.board->pic().IntrAsserted());
}

TEST_CASE("every device on the buses is saved, or is known to have nothing to save", "[machine]") {
  Rig rig;
  std::set<std::string> there;
  const auto collect = [&](const vmm::Bus& bus, uint64_t first, uint64_t last, uint64_t step) {
    vmm::Bus::Range range;
    for (uint64_t address = first; address <= last; address += step) {
      if (bus.Find(address, &range)) there.emplace(range.device->name());
    }
  };
  collect(rig.board->ports(), 0, 0xffff, 1);
  collect(rig.board->mmio(), 0, 0xffffffff, vmm::kPageSize);
  // The section of Board::ForEachDevice() that holds it; empty: it has no state.
  const std::map<std::string, std::string> section_of = {
      {"acpi-apm", "acpi-pm"},
      {"acpi-gpe0", "acpi-pm"},
      {"acpi-pm", "acpi-pm"},
      {"debug-console", ""},
      {"debug-exit", ""},
      {"disk0", "disk0"},
      {"elcr", "pic"},
      {"firmware-console", ""},
      {"hpet", "hpet"},
      {"i8042-command", "i8042"},
      {"i8042-data", "i8042"},
      {"ioapic", "ioapic"},
      {"pci-host-bridge", "pci-host-bridge"},
      {"pic0", "pic"},
      {"pic1", "pic"},
      {"pit", "pit"},
      {"port-a", "a20"},
      {"port-b", "pit"},
      {"post", ""},
      {"pvpanic", ""},
      {"rng", "rng"},
      {"rtc", "rtc"},
      {"serial0", "serial0"},
      {"serial1", "serial1"},
      {"serial2", "serial2"},
      {"serial3", "serial3"},
      {"smbus", "smbus"},
      {"testdev-byte-latch", "testdev"},
      {"testdev-flush", "testdev"},
      {"testdev-latch", "testdev"},
      {"testdev-lines", "testdev"},
      {"testdev-memory", "testdev"},
      {"virtio-console", "virtio-console"},
  };
  vmm::Sections saved;
  rig.board->PauseDevices();
  rig.board->SaveState(saved);
  std::set<std::string> sections;
  for (const auto& section : saved.list()) sections.insert(section.name);
  for (const std::string& name : there) {
    INFO("a device that this test does not know, or that is not saved: " << name);
    const auto known = section_of.find(name);
    REQUIRE(known != section_of.end());
    CHECK((known->second.empty() || sections.count(known->second) == 1));
  }
  CHECK(there.size() == section_of.size());
}
