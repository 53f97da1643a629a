#include <catch2/catch.hpp>
#include <vector>

#include "../support/fakes.h"
#include "vmm/core/pci/i440fx.h"
#include "vmm/core/pci/pci_host_bridge.h"
#include "vmm/core/pci/piix3_isa.h"
#include "vmm/core/pci/piix4_pm.h"

using namespace fakes;
using namespace vmm;

namespace {

// The byte at 0xCF9.
struct FakeResetControl final : Device {
  std::string_view name() const override { return "reset-control"; }
  void Read(uint64_t, std::span<uint8_t> data) override { data[0] = value; }
  void Write(uint64_t, std::span<const uint8_t> data) override { value = data[0]; }
  uint8_t value = 0x42;
};

struct Move {
  Piix4Pm::Block block;
  uint16_t base;
  bool enabled;
  friend bool operator==(const Move&, const Move&) = default;
};

// The board's bus 0 with a driver's view of it.
struct Board {
  FakeResetControl reset_control;
  PciHostBridge bridge{&reset_control};
  I440Fx i440fx;
  Piix3Isa isa;
  std::vector<Move> moves;
  Piix4Pm pm{[this](Piix4Pm::Block block, Piix4Pm::Placement at) {
    moves.push_back({block, at.base.value, at.enabled});
  }};

  Board() {
    REQUIRE(bridge.Add({0, 0}, i440fx));
    REQUIRE(bridge.Add({1, 0}, isa));
    REQUIRE(bridge.Add({1, 3}, pm));
  }
  void Select(unsigned bus, unsigned device, unsigned function, unsigned reg) {
    Out(bridge, 0, 0x8000'0000u | bus << 16 | device << 11 | function << 8 | (reg & 0xFC), 4);
  }
  uint64_t Read(unsigned device, unsigned function, unsigned reg, size_t size) {
    Select(0, device, function, reg);
    return In(bridge, 4 + (reg & 3), size);
  }
  void Write(unsigned device, unsigned function, unsigned reg, uint64_t value, size_t size) {
    Select(0, device, function, reg);
    Out(bridge, 4 + (reg & 3), value, size);
  }
};

}  // namespace

TEST_CASE("the address register takes whole 32-bit accesses only") {  // [PCI] 3.2.2.3.2
  Board b;
  Out(b.bridge, 3, 0x01, 1);  // Linux pci_check_type1: must not reach it
  Out(b.bridge, 0, 0xFFFF'FFFF, 4);
  CHECK(In(b.bridge, 0, 4) == 0x80FF'FFFC);
  Out(b.bridge, 0, 0x1234, 2);
  CHECK(In(b.bridge, 0, 4) == 0x80FF'FFFC);
  CHECK(In(b.bridge, 0, 2) == 0xFFFF);
}

TEST_CASE("a byte at 0xCF9 is the reset control register's") {
  Board b;
  Out(b.bridge, 0, 0x8000'0000, 4);
  CHECK(In(b.bridge, 1, 1) == 0x42);
  Out(b.bridge, 1, 0x06, 1);
  CHECK(b.reset_control.value == 0x06);
  CHECK(In(b.bridge, 0, 4) == 0x8000'0000);

  PciHostBridge alone(nullptr);
  Out(alone, 1, 0x06, 1);
  CHECK(In(alone, 1, 1) == 0xFF);
}

TEST_CASE("a scan of the bus finds the chipset") {
  Board b;
  std::vector<uint64_t> found;
  for (unsigned device = 0; device < 32; ++device)
    for (unsigned function = 0; function < 8; ++function) {
      const uint64_t id = b.Read(device, function, 0, 4);
      if (id != 0xFFFF'FFFF) found.push_back(id);
    }
  CHECK(found == std::vector<uint64_t>{0x1237'8086, 0x7000'8086, 0x7113'8086});
  CHECK(b.Read(0, 0, 0x08, 4) == 0x0600'0002);  // host bridge
  CHECK(b.Read(1, 0, 0x08, 4) == 0x0601'0000);  // ISA bridge
  CHECK(b.Read(1, 3, 0x08, 4) == 0x0680'0003);  // other bridge
  CHECK(b.Read(0, 0, 0x0E, 1) == 0x00);
  CHECK(b.Read(1, 0, 0x0E, 1) == 0x80);  // there is more than function 0
}

TEST_CASE("configuration space is read by byte, word and long word alike") {
  Board b;
  CHECK(b.Read(0, 0, 0x00, 1) == 0x86);
  CHECK(b.Read(0, 0, 0x01, 1) == 0x80);
  CHECK(b.Read(0, 0, 0x02, 2) == 0x1237);
  CHECK(b.Read(0, 0, 0x03, 1) == 0x12);
  b.Write(1, 3, 0x3C, 0x0B, 1);
  CHECK(b.Read(1, 3, 0x3C, 2) == 0x010B);
}

TEST_CASE("nobody answers on another bus, in an empty slot or while the enable bit is off") {
  Board b;
  b.Select(1, 0, 0, 0);
  CHECK(In(b.bridge, 4, 4) == 0xFFFF'FFFF);
  CHECK(b.Read(31, 7, 0, 4) == 0xFFFF'FFFF);
  b.Write(31, 7, 0, 0, 4);
  Out(b.bridge, 0, 0x0000'0000, 4);
  CHECK(In(b.bridge, 4, 4) == 0xFFFF'FFFF);
}

TEST_CASE("only writable bits take what is written") {
  Board b;
  b.Write(0, 0, 0x00, 0, 4);
  CHECK(b.Read(0, 0, 0x00, 4) == 0x1237'8086);
  b.Write(0, 0, 0x59, 0xFF, 1);
  b.Write(0, 0, 0x5A, 0xFF, 1);
  CHECK(b.Read(0, 0, 0x58, 4) == 0x00'33'30'10);
  b.Write(0, 0, 0x10, 0xFFFF'FFFF, 4);  // no base address registers
  CHECK(b.Read(0, 0, 0x10, 4) == 0);
}

TEST_CASE("PIRQ routes are kept, and only to IRQs that can be chosen") {  // [PIIX3] PIRQRC
  Board b;
  CHECK(b.isa.RouteOf(0) == Gsi(10));
  CHECK(b.isa.RouteOf(3) == Gsi(11));
  b.Write(1, 0, 0x60, 0x0505'8005, 4);
  CHECK(b.isa.RouteOf(0) == Gsi(5));
  CHECK(b.isa.RouteOf(1) == std::nullopt);
  b.Write(1, 0, 0x60, 0x08, 1);  // the clock's
  CHECK(b.isa.RouteOf(0) == std::nullopt);
  CHECK(b.Read(1, 0, 0x60, 1) == 0x08);
}

TEST_CASE("the PM function shows its blocks and APMC_EN from the start") {  // [PIIX4] function 3
  Board b;
  CHECK(b.Read(1, 3, 0x40, 4) == 0x0601);
  CHECK(b.Read(1, 3, 0x80, 1) == 0x01);
  CHECK(b.Read(1, 3, 0x90, 4) == 0x0701);
  CHECK(b.Read(1, 3, 0xD2, 1) == 0x09);
  CHECK((b.Read(1, 3, 0x58, 4) & 1u << 25) != 0);
  CHECK(b.Read(1, 3, 0x3C, 2) == 0x0109);
  CHECK(b.moves.empty());
  CHECK(b.pm.Where(Piix4Pm::Block::kPowerManagement) == Piix4Pm::Placement{Port(0x600), true});
}

TEST_CASE("the PM function says when its blocks move") {  // as SeaBIOS sets them up
  Board b;
  using enum Piix4Pm::Block;
  b.Write(1, 3, 0x40, 0xB001, 4);
  b.Write(1, 3, 0x40, 0xB000, 4);  // the same: the lowest bit is read-only
  b.Write(1, 3, 0x80, 0x00, 1);
  b.Write(1, 3, 0x90, 0xB101, 4);
  b.Write(1, 3, 0xD2, 0x00, 1);
  CHECK(b.moves == std::vector<Move>{{kPowerManagement, 0xB000, true},
                                     {kPowerManagement, 0xB000, false},
                                     {kSmbus, 0xB100, true},
                                     {kSmbus, 0xB100, false}});
  b.moves.clear();
  b.pm.Reset();
  CHECK(b.moves == std::vector<Move>{{kPowerManagement, 0x600, true}, {kSmbus, 0x700, true}});
}

TEST_CASE("a slot takes one function, and only slots that exist do") {
  Board b;
  I440Fx other;
  CHECK_FALSE(b.bridge.Add({1, 3}, other));
  CHECK_FALSE(b.bridge.Add({32, 0}, other));
  CHECK_FALSE(b.bridge.Add({0, 8}, other));
  CHECK(b.bridge.Find({1, 3}) == &b.pm);
  b.bridge.Remove({1, 3});
  CHECK(b.bridge.Find({1, 3}) == nullptr);
  CHECK(b.Read(1, 3, 0, 4) == 0xFFFF'FFFF);
  CHECK(b.bridge.Find({40, 9}) == nullptr);
}

TEST_CASE("a saved bridge and its functions continue where they were") {
  Board a;
  a.Write(1, 0, 0x60, 0x05, 1);
  a.Write(1, 3, 0x40, 0xB001, 4);
  Board b;
  REQUIRE(b.bridge.Load(a.bridge.Save()));
  REQUIRE(b.isa.Load(a.isa.Save()));
  REQUIRE(b.pm.Load(a.pm.Save()));
  CHECK(b.isa.Save() == a.isa.Save());
  CHECK(In(b.bridge, 4, 4) == 0xB001);  // the address register too
  CHECK(b.isa.RouteOf(0) == Gsi(5));
  CHECK(b.moves == std::vector<Move>{{Piix4Pm::Block::kPowerManagement, 0xB000, true}});
}

TEST_CASE("a saved configuration space of another function is refused") {
  Board b;
  const PciFunctionState before = b.pm.Save();
  CHECK_FALSE(b.pm.Load(b.isa.Save()));
  PciFunctionState bad = before;
  SECTION("version") {
    bad.version = 2;
  }
  SECTION("a read-only bit") {
    bad.config[0x40] ^= 0x02;
  }
  SECTION("a register that isn't there") {
    bad.config[0xFF] = 1;
  }
  CHECK_FALSE(b.pm.Load(bad));
  CHECK(b.pm.Save() == before);
  CHECK_FALSE(b.bridge.Load({.config_address = 0x7F00'0000}));
}

TEST_CASE("random accesses leave bus 0 in a state that it would load itself") {
  Board b;
  Random random(4);
  for (int i = 0; i < 30000; ++i) {
    const size_t size = size_t{1} << random.Below(4);
    const uint64_t offset = random.Below(9);
    switch (random.Below(3)) {
      case 0:
        b.Select(0, static_cast<unsigned>(random.Below(2)), static_cast<unsigned>(random.Below(4)),
                 static_cast<unsigned>(random.Below(256)));
        break;
      case 1:
        In(b.bridge, offset, size);
        break;
      case 2:
        Out(b.bridge, offset, random.Next(), size);
        break;
    }
    if (i % 100 != 0) continue;
    REQUIRE(b.bridge.Load(b.bridge.Save()));
    REQUIRE(b.i440fx.Load(b.i440fx.Save()));
    REQUIRE(b.isa.Load(b.isa.Save()));
    REQUIRE(b.pm.Load(b.pm.Save()));
  }
}
