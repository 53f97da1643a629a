// A PCI function with BARs, pin, MSI and MSI-X, driven as a driver does.
#include "vmm/core/pci/pci_endpoint.h"

#include <catch2/catch.hpp>
#include <vector>

#include "../support/fakes.h"
#include "vmm/core/base/bytes.h"

using namespace fakes;
using namespace vmm;

namespace {

struct FakeSink final : MsiSink {
  void SendMsi(MsiMessage message) override { sent.push_back(message); }
  // The data of all messages since the last call.
  std::vector<uint32_t> Take() {
    std::vector<uint32_t> data;
    for (const MsiMessage& message : sent) data.push_back(message.data);
    sent.clear();
    return data;
  }
  std::vector<MsiMessage> sent;
};

// Answers with its value and the offset.
struct Block final : Device {
  explicit Block(uint8_t v) : value(v) {}
  std::string_view name() const override { return "block"; }
  void Read(uint64_t offset, std::span<uint8_t> data) override {
    for (uint8_t& byte : data) byte = static_cast<uint8_t>(value + offset++);
  }
  void Write(uint64_t, std::span<const uint8_t>) override {}
  uint8_t value;
};

constexpr uint32_t kTableOffset = 0x40, kPendingOffset = 0x800;

// BAR 0: 4 KiB of 32-bit memory, with the tables of MSI-X. BAR 1: 64 ports. BAR 2: 16 KiB of
// 64-bit memory.
class TestFunction final : public PciEndpoint {
 public:
  enum class Messages { kNone, kMsi, kMsix };

  TestFunction(const Socket& socket, Messages messages, unsigned vectors = 3)
      : PciEndpoint("test", {.vendor = 0x1234, .device = 0x5678, .class_code = 0xFF0000},
                    {.vendor = 0xABCD, .device = 0x4321}, socket,
                    messages == Messages::kNone ? 0 : vectors),
        bar0_("bar0", *this, &TestFunction::Read, &TestFunction::Write) {
    DefineBar(0, BarKind::kMemory32, 4096, bar0_);
    DefineBar(1, BarKind::kPorts, 64, ports_);
    DefineBar(2, BarKind::kMemory64, 0x4000, wide_);
    if (messages == Messages::kMsi) DefineMsi();
    if (messages == Messages::kMsix) DefineMsix(0, kTableOffset, kPendingOffset);
  }

 private:
  void Read(uint64_t offset, std::span<uint8_t> data) {
    if (offset >= kPendingOffset) return interrupts().pending_bits().Read(offset - 0x800, data);
    if (offset >= kTableOffset) return interrupts().table().Read(offset - kTableOffset, data);
    std::ranges::fill(data, uint8_t{0x11});
  }
  void Write(uint64_t offset, std::span<const uint8_t> data) {
    if (offset >= kPendingOffset) return interrupts().pending_bits().Write(offset - 0x800, data);
    if (offset >= kTableOffset) interrupts().table().Write(offset - kTableOffset, data);
  }

  DevicePart<TestFunction> bar0_;
  Block ports_{0x22}, wide_{0x33};
};

using Messages = TestFunction::Messages;

struct Rig {
  explicit Rig(Messages messages = Messages::kMsix, unsigned vectors = 3)
      : function({decoder, pin, sink}, messages, vectors) {}

  uint64_t Get(unsigned offset, size_t size = 4) {
    std::array<uint8_t, 4> data{};
    function.ReadConfig(static_cast<uint16_t>(offset), std::span(data).first(size));
    return LoadLittleEndian(std::span(data).first(size));
  }
  void Set(unsigned offset, uint64_t value, size_t size = 4) {
    std::array<uint8_t, 4> data{};
    StoreLittleEndian(std::span(data).first(size), value);
    function.WriteConfig(static_cast<uint16_t>(offset), std::span<const uint8_t>(data).first(size));
  }
  static uint64_t At(const Bus& bus, uint64_t address, size_t size = 1) {
    std::array<uint8_t, 8> data{};
    bus.Read(address, std::span(data).first(size));
    return LoadLittleEndian(std::span(data).first(size));
  }
  void Poke(uint64_t address, uint64_t value, size_t size = 4) {
    std::array<uint8_t, 8> data{};
    StoreLittleEndian(std::span(data).first(size), value);
    mmio.Write(address, std::span<const uint8_t>(data).first(size));
  }
  // Walks the list as [PCI] 6.7 says; 0: not there.
  unsigned FindCapability(pci::Capability kind) {
    if ((Get(pci::kStatus, 2) & 0x10) == 0) return 0;
    unsigned at = static_cast<unsigned>(Get(pci::kCapabilities, 1));
    for (int steps = 0; at != 0 && steps < 48; ++steps) {
      if (Get(at, 1) == static_cast<uint8_t>(kind)) return at;
      at = static_cast<unsigned>(Get(at + 1, 1));
    }
    return 0;
  }
  void SetEntry(unsigned vector, uint64_t address, uint32_t data, bool masked) {
    const uint64_t entry = 0xC1000000 + kTableOffset + 16 * vector;
    Poke(entry, address, 8);
    Poke(entry + 8, data);
    Poke(entry + 12, masked);
  }

  Bus ports{0x10000}, mmio{uint64_t{1} << 52};
  PciDecoder decoder{ports, mmio};
  FakeIrqLine pin;
  FakeSink sink;
  TestFunction function;
};

constexpr unsigned kIo = 1, kMemory = 2, kMaster = 4;

}  // namespace

TEST_CASE("a BAR tells its kind and size, and answers where and while it is decoded",
          "[pci]") {  // [PCI] 6.2.5.1
  Rig r;
  CHECK(r.Get(0x2C) == 0x4321ABCD);
  CHECK(r.Get(pci::kInterruptPin, 1) == 1);
  for (const auto& [offset, sized] : {std::pair{0x10u, 0xFFFFF000u},
                                      {0x14u, 0x0000FFC1u},
                                      {0x18u, 0xFFFFC00Cu},
                                      {0x1Cu, 0xFFFFFFFFu},
                                      {0x20u, 0u},
                                      {0x24u, 0u}}) {
    r.Set(offset, 0xFFFFFFFF);
    CHECK(r.Get(offset) == sized);
    r.Set(offset, 0);
  }
  r.Set(0x10, 0xC1000000);
  r.Set(0x14, 0xC040);
  r.Set(0x18, 0x00008000);
  r.Set(0x1C, 0x00000012);
  CHECK(Rig::At(r.mmio, 0xC1000000) == 0xFF);
  CHECK(Rig::At(r.ports, 0xC040) == 0xFF);
  r.Set(pci::kCommand, kMemory, 2);
  CHECK(Rig::At(r.mmio, 0xC1000000) == 0x11);
  CHECK(Rig::At(r.mmio, 0x12'0000'8005) == 0x38);
  CHECK(Rig::At(r.ports, 0xC040) == 0xFF);
  r.Set(pci::kCommand, kIo, 2);
  CHECK(Rig::At(r.mmio, 0xC1000000) == 0xFF);
  CHECK(Rig::At(r.ports, 0xC043) == 0x25);
  CHECK(Rig::At(r.ports, 0xC080) == 0xFF);
}

TEST_CASE("a BAR that is moved leaves its old place at once", "[pci]") {
  Rig r;
  r.Set(0x10, 0xC1000000);
  r.Set(pci::kCommand, kMemory, 2);
  r.Set(0x10, 0xC2000000);
  CHECK(Rig::At(r.mmio, 0xC1000000) == 0xFF);
  CHECK(Rig::At(r.mmio, 0xC2000000) == 0x11);
  r.Set(0x12, 0xC3, 1);  // a byte of it
  r.Set(0x13, 0xC0, 1);
  CHECK(Rig::At(r.mmio, 0xC0C30000) == 0x11);
  r.function.ResetEndpoint();
  CHECK(r.Get(0x10) == 0);
  CHECK(Rig::At(r.mmio, 0xC0C30000) == 0xFF);
}

TEST_CASE("of two BARs at one place the first answers, and the other once it has left", "[pci]") {
  Rig r;
  r.Set(0x10, 0xC1000000);
  r.Set(0x18, 0xC1000000);
  r.Set(pci::kCommand, kMemory, 2);
  CHECK(Rig::At(r.mmio, 0xC1000000) == 0x11);
  CHECK(Rig::At(r.mmio, 0xC1001000) == 0xFF);
  r.Set(0x10, 0xC2000000);
  CHECK(Rig::At(r.mmio, 0xC1000001) == 0x34);
  CHECK(Rig::At(r.mmio, 0xC2000000) == 0x11);
  // A device of the board that nobody can move.
  Block board(0x77);
  REQUIRE(r.mmio.Attach(0xFEC00000, 0x1000, board));
  r.Set(0x10, 0xFEC00000);
  CHECK(Rig::At(r.mmio, 0xFEC00000) == 0x77);
}

TEST_CASE("a function that goes takes its ranges along", "[pci]") {
  Bus ports{0x10000}, mmio{uint64_t{1} << 52};
  PciDecoder decoder{ports, mmio};
  FakeIrqLine pin;
  FakeSink sink;
  {
    TestFunction function({decoder, pin, sink}, Messages::kNone);
    PciAddressPlan plan;
    REQUIRE(function.AssignResources(plan, 11));
    CHECK(Rig::At(mmio, 0xC0000000) == 0x11);
  }
  CHECK(Rig::At(mmio, 0xC0000000) == 0xFF);
}

TEST_CASE("BARs have places from power-on, as a BIOS leaves them, and after a reset", "[pci]") {
  Rig r;
  PciAddressPlan plan;
  REQUIRE(r.function.AssignResources(plan, 11));
  for (int round = 0; round < 2; ++round) {
    CHECK(r.Get(0x10) == 0xC0000000);
    CHECK(r.Get(0x14) == 0xC001);
    CHECK(r.Get(0x18) == 0xC000400C);
    CHECK(r.Get(pci::kInterruptLine, 1) == 11);
    CHECK(r.Get(pci::kCommand, 2) == (kIo | kMemory));
    CHECK(Rig::At(r.mmio, 0xC0004000) == 0x33);
    r.Set(0x10, 0xD0000000);
    r.Set(pci::kCommand, 0, 2);
    r.Set(pci::kInterruptLine, 5, 1);
    r.function.ResetEndpoint();
  }
  PciAddressPlan full;
  CHECK(full.TakeMemory(uint64_t{1} << 29) == 0xC0000000);
  CHECK(full.TakeMemory(uint64_t{1} << 29) == 0);
  CHECK(full.TakeMemory(4096) == 0xE0000000);
}

TEST_CASE("the pin follows the device, the disable bit and the use of messages",
          "[pci]") {  // [PCI] 6.2.2, 6.2.3, 6.8.3.3
  Rig r;
  CHECK((r.Get(pci::kStatus, 2) & 0x8) == 0);
  r.function.interrupts().SetPin(true);
  CHECK(r.pin.high);
  CHECK((r.Get(pci::kStatus, 2) & 0x8) != 0);
  CHECK((r.Get(pci::kStatus, 1) & 0x8) != 0);
  CHECK((r.Get(pci::kCommand, 4) >> 16 & 0x8) != 0);
  r.Set(pci::kCommand, 0x400, 2);
  CHECK_FALSE(r.pin.high);
  CHECK((r.Get(pci::kStatus, 2) & 0x8) != 0);
  r.Set(pci::kCommand, 0, 2);
  CHECK(r.pin.high);
  const unsigned msix = r.FindCapability(pci::Capability::Msix);
  r.Set(msix + 2, 0x8000, 2);
  CHECK_FALSE(r.pin.high);
  r.Set(msix + 2, 0, 2);
  CHECK(r.pin.high);
  r.function.interrupts().SetPin(false);
  CHECK_FALSE(r.pin.high);
  CHECK((r.Get(pci::kStatus, 2) & 0x8) == 0);
}

TEST_CASE("MSI-X sends what its table says", "[pci]") {  // [PCI] 6.8.2
  Rig r;
  const unsigned msix = r.FindCapability(pci::Capability::Msix);
  REQUIRE(msix != 0);
  CHECK(r.Get(msix + 2, 2) == 2);  // three vectors
  CHECK(r.Get(msix + 4) == kTableOffset);
  CHECK(r.Get(msix + 8) == kPendingOffset);
  r.Set(0x10, 0xC1000000);
  r.Set(pci::kCommand, kMemory | kMaster, 2);
  // After reset each vector is masked. [PCI] 6.8.2.9
  for (unsigned v = 0; v < 3; ++v)
    CHECK(Rig::At(r.mmio, 0xC1000000 + kTableOffset + 16 * v + 12, 4) == 1);
  r.SetEntry(1, 0x1'FEE0'1003, 0x41, false);
  CHECK(Rig::At(r.mmio, 0xC1000000 + kTableOffset + 16, 8) == 0x1'FEE0'1000);
  r.function.interrupts().Send(1);  // not enabled: lost
  CHECK(r.sink.Take().empty());
  r.Set(msix + 2, 0x8000, 2);
  CHECK(r.sink.Take().empty());
  r.function.interrupts().Send(1);
  REQUIRE(r.sink.sent.size() == 1);
  CHECK(r.sink.sent[0].address == 0x1'FEE0'1000);
  CHECK(r.sink.sent[0].data == 0x41);
}

TEST_CASE("a masked vector of MSI-X is pending until it may be sent",
          "[pci]") {  // [PCI] 6.8.3.5
  Rig r;
  const unsigned msix = r.FindCapability(pci::Capability::Msix);
  r.Set(0x10, 0xC1000000);
  r.Set(pci::kCommand, kMemory | kMaster, 2);
  r.Set(msix + 2, 0x8000, 2);
  r.SetEntry(0, 0xFEE00000, 0x30, false);
  r.SetEntry(2, 0xFEE00000, 0x32, true);
  const auto pending = [&] { return Rig::At(r.mmio, 0xC1000000 + kPendingOffset, 8); };

  r.function.interrupts().Send(2);
  r.function.interrupts().Send(2);
  CHECK(pending() == 4);
  r.Poke(0xC1000000 + kPendingOffset, 0);  // read-only
  CHECK(pending() == 4);
  r.SetEntry(2, 0xFEE00000, 0x33, false);
  CHECK(r.sink.Take() == std::vector<uint32_t>{0x33});  // once
  CHECK(pending() == 0);

  r.Set(msix + 2, 0xC000, 2);  // the whole function
  r.function.interrupts().Send(0);
  CHECK(pending() == 1);
  r.Set(msix + 2, 0x8000, 2);
  CHECK(r.sink.Take() == std::vector<uint32_t>{0x30});

  r.Set(pci::kCommand, kMemory, 2);  // no bus master: no writes to memory, so no messages
  r.function.interrupts().Send(0);
  CHECK(r.sink.Take().empty());
  r.Set(pci::kCommand, kMemory | kMaster, 2);
  CHECK(r.sink.Take() == std::vector<uint32_t>{0x30});
  CHECK(r.pin.rises == 0);
}

TEST_CASE("the table of MSI-X takes accesses of any size, and none beyond its end", "[pci]") {
  Rig r;
  r.Set(0x10, 0xC1000000);
  r.Set(pci::kCommand, kMemory, 2);
  const uint64_t table = 0xC1000000 + kTableOffset;
  r.Poke(table + 1, 0xAB, 1);
  r.Poke(table + 8, 0xCDEF, 2);
  CHECK(Rig::At(r.mmio, table, 4) == 0xAB00);
  CHECK(Rig::At(r.mmio, table + 8, 4) == 0xCDEF);
  r.Poke(table + 12, 0xFFFFFFFE);  // reserved bits
  CHECK(Rig::At(r.mmio, table + 12, 4) == 0);
  r.Poke(table + 48, ~uint64_t{0}, 8);
  CHECK(Rig::At(r.mmio, table + 48, 8) == 0);
  r.Poke(table + 46, ~uint64_t{0}, 4);
  CHECK(Rig::At(r.mmio, table + 44, 8) == 1);
}

TEST_CASE("MSI sends its data with the vector in the bits that were granted",
          "[pci]") {  // [PCI] 6.8.1
  Rig r(Messages::kMsi, 4);
  const unsigned msi = r.FindCapability(pci::Capability::Msi);
  REQUIRE(msi != 0);
  CHECK(r.Get(msi + 2, 2) == 0x0184);  // four vectors, 64-bit addresses, masks
  r.Set(pci::kCommand, kMaster, 2);
  r.Set(msi + 4, 0xFEE01003);
  r.Set(msi + 8, 0x2);
  r.Set(msi + 12, 0x4042, 2);
  r.Set(msi + 2, 0x0001 | 1 << 4, 2);  // two of them
  r.function.interrupts().Send(1);
  r.function.interrupts().Send(2);
  r.function.interrupts().Send(3);
  REQUIRE(r.sink.sent.size() == 3);
  CHECK(r.sink.sent[0].address == 0x2'FEE0'1000);
  CHECK(r.sink.Take() == std::vector<uint32_t>{0x4043, 0x4042, 0x4043});
  r.Set(msi + 2, 0x0001 | 7 << 4, 2);  // more than there are
  r.function.interrupts().Send(3);
  CHECK(r.sink.Take() == std::vector<uint32_t>{0x4043});

  r.Set(msi + 16, 0xFFFFFFFF);
  CHECK(r.Get(msi + 16) == 0xF);
  r.function.interrupts().Send(2);
  CHECK(r.sink.Take().empty());
  CHECK(r.Get(msi + 20) == 0x4);
  CHECK(r.Get(msi + 20, 1) == 0x4);
  r.Set(msi + 20, 0);
  CHECK(r.Get(msi + 20) == 0x4);
  r.Set(msi + 16, 0xB);
  CHECK(r.sink.Take() == std::vector<uint32_t>{0x4042});
  CHECK(r.Get(msi + 20) == 0);
}

TEST_CASE("a saved function goes on where it was, pending messages too", "[pci]") {
  Rig a;
  const unsigned msix = a.FindCapability(pci::Capability::Msix);
  a.Set(0x10, 0xC1000000);
  a.Set(pci::kCommand, kMemory | kMaster, 2);
  a.Set(msix + 2, 0x8000, 2);
  a.SetEntry(1, 0xFEE00000, 0x55, true);
  a.function.interrupts().Send(1);
  a.function.interrupts().SetPin(true);
  const PciEndpointState saved = a.function.SaveEndpoint();
  Rig b;
  REQUIRE(b.function.LoadEndpoint(saved));
  CHECK(b.function.SaveEndpoint() == saved);
  CHECK(Rig::At(b.mmio, 0xC1000000) == 0x11);
  CHECK(b.sink.Take().empty());
  b.SetEntry(1, 0xFEE00000, 0x55, false);
  CHECK(b.sink.Take() == std::vector<uint32_t>{0x55});
  b.Set(msix + 2, 0, 2);
  CHECK(b.pin.high);
}

TEST_CASE("a saved function that can't be this one is refused", "[pci]") {
  Rig r;
  const PciEndpointState good = r.function.SaveEndpoint();
  const auto refused = [&](auto damage) {
    PciEndpointState bad = good;
    damage(bad);
    return !r.function.LoadEndpoint(bad);
  };
  CHECK(refused([](auto& s) { s.version = 2; }));
  CHECK(refused([](auto& s) { s.function.config[0] ^= 1; }));
  CHECK(refused([](auto& s) { s.interrupts.version = 7; }));
  CHECK(refused([](auto& s) { s.interrupts.pending = 8; }));  // vectors 0 to 2
  CHECK(refused([](auto& s) { s.interrupts.table[0][0] = 3; }));
  CHECK(refused([](auto& s) { s.interrupts.table[63][3] = 2; }));
  CHECK(r.function.LoadEndpoint(good));
}
