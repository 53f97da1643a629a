#include "vmm/core/irq/ioapic.h"

#include <catch2/catch.hpp>
#include <random>
#include <vector>

#include "irq_fakes.h"
#include "vmm/core/irq/irq_router.h"

using namespace vmm;
using namespace vmm::test;

namespace {

struct FakeOutput final : IoapicOutput {
  struct Route {
    MsiMessage message;
    bool masked = true, level = false;
  };
  std::vector<MsiMessage> sent;
  std::array<Route, 24> routes;

  void SendMsi(MsiMessage message) override { sent.push_back(message); }
  void IoapicRouteChanged(unsigned pin, MsiMessage message, bool masked, bool level) override {
    routes.at(pin) = {message, masked, level};
  }
  // Data of the messages since the last call.
  std::vector<uint32_t> Take() {
    std::vector<uint32_t> data;
    for (const MsiMessage& message : sent) data.push_back(message.data);
    sent.clear();
    return data;
  }
};

struct Chip {
  FakeOutput output;
  Ioapic ioapic{output};

  void Put(uint64_t offset, uint32_t value) {
    ioapic.Write(offset, {reinterpret_cast<const uint8_t*>(&value), 4});
  }
  uint32_t Get(uint64_t offset) {
    uint32_t value = 0;
    ioapic.Read(offset, {reinterpret_cast<uint8_t*>(&value), 4});
    return value;
  }
  void PutReg(uint8_t index, uint32_t value) {
    Put(0, index);
    Put(0x10, value);
  }
  uint32_t GetReg(uint8_t index) {
    Put(0, index);
    return Get(0x10);
  }
  void Route(unsigned pin, uint32_t low, uint8_t destination = 0) {
    PutReg(static_cast<uint8_t>(0x11 + 2 * pin), uint32_t{destination} << 24);
    PutReg(static_cast<uint8_t>(0x10 + 2 * pin), low);
  }
  uint32_t Low(unsigned pin) { return GetReg(static_cast<uint8_t>(0x10 + 2 * pin)); }
};

using Data = std::vector<uint32_t>;

}  // namespace

TEST_CASE("An I/O APIC identifies itself and has all pins masked after reset") {
  Chip c;
  CHECK(c.GetReg(1) == 0x00170020);  // [IOAPIC] 3.2.2: 24 entries
  c.PutReg(0, 0xFFFFFFFF);
  CHECK(c.GetReg(0) == 0x0F000000);
  CHECK(c.Low(0) == 0x00010000);
  CHECK(c.Low(23) == 0x00010000);
  CHECK(c.GetReg(0x40) == 0);
  c.Put(0, 0x1A);
  CHECK(c.Get(0) == 0x1A);
}

TEST_CASE("An edge sends one message with the entry's fields") {
  Chip c;
  c.Route(4, 0x00000934, 0x03);  // lowest priority, logical
  c.ioapic.Set(4, true);
  REQUIRE(c.output.sent.size() == 1);
  CHECK(c.output.sent[0].address == 0xFEE03004);
  CHECK(c.output.sent[0].data == 0x134);
  c.ioapic.Set(4, true);
  CHECK(c.output.sent.size() == 1);
  c.ioapic.Set(4, false);
  c.ioapic.Set(4, true);
  CHECK(c.output.sent.size() == 2);
}

TEST_CASE("An edge on a masked pin is lost") {
  Chip c;
  c.Route(4, 0x10034);
  c.ioapic.Set(4, true);
  c.Route(4, 0x34);
  CHECK(c.output.sent.empty());
}

TEST_CASE("A level is sent once, and again after EOI while it lasts") {
  Chip c;
  c.Route(9, 0x18039);
  c.ioapic.Set(9, true);
  CHECK(c.output.Take().empty());
  c.Route(9, 0x8039);  // counts when it is unmasked
  CHECK(c.output.Take() == Data{0xC039});
  CHECK(c.Low(9) == 0xC039);  // remote IRR [IOAPIC] 3.2.4
  c.ioapic.Set(9, false);
  c.ioapic.Set(9, true);
  CHECK(c.output.Take().empty());
  c.ioapic.OnEoi(0x38);
  CHECK(c.output.Take().empty());
  c.ioapic.OnEoi(0x39);
  CHECK(c.output.Take() == Data{0xC039});
  c.ioapic.Set(9, false);
  c.ioapic.OnEoi(0x39);
  CHECK(c.output.Take().empty());
  CHECK(c.Low(9) == 0x8039);
}

TEST_CASE("EOI ends all pins with the vector; the EOI register does the same") {
  Chip c;
  c.Route(16, 0x8050);
  c.Route(17, 0x8050);
  c.ioapic.Set(16, true);
  c.ioapic.Set(17, true);
  CHECK(c.output.Take() == Data{0xC050, 0xC050});
  c.Put(0x40, 0x50);  // [ICH9] 13.5.5
  CHECK(c.output.Take() == Data{0xC050, 0xC050});
}

TEST_CASE("Remote IRR survives writes and masking, and goes when the pin is made edge triggered") {
  Chip c;
  c.Route(9, 0x8039);
  c.ioapic.Set(9, true);
  c.Route(9, 0x18039);
  CHECK(c.Low(9) == 0x1C039);
  c.Route(9, 0x8039);
  CHECK(c.output.Take() == Data{0xC039});
  // Linux's __eoi_ioapic_pin() for chips without the EOI register: masked edge, then back.
  c.PutReg(0x22, 0x10039);
  CHECK(c.Low(9) == 0x10039);
  c.PutReg(0x22, 0x8039);
  CHECK(c.output.Take() == Data{0xC039});
}

TEST_CASE("NMI and ExtINT are edges whatever the entry says") {
  Chip c;
  c.Route(0, 0x8700);
  c.Route(1, 0x8400);
  c.ioapic.Set(0, true);
  c.ioapic.Set(1, true);
  CHECK(c.output.Take() == Data{0x700, 0x400});
  CHECK(c.Low(0) == 0x8700);
}

TEST_CASE("The output follows the table") {
  Chip c;
  c.Route(9, 0x8039, 2);
  CHECK(c.output.routes[9].message.address == 0xFEE02000);
  CHECK(c.output.routes[9].message.data == 0xC039);
  CHECK(c.output.routes[9].level);
  CHECK_FALSE(c.output.routes[9].masked);
  c.ioapic.Reset();
  CHECK(c.output.routes[9].masked);
  CHECK(c.output.routes[9].message.data == 0);
}

TEST_CASE("The window takes 32 bits at once; odd accesses are harmless") {
  Chip c;
  c.Put(0, 0x18);
  uint8_t byte = 0x55;
  c.ioapic.Write(0x10, {&byte, 1});
  CHECK(c.Low(4) == 0x10000);
  c.ioapic.Read(0x12, {&byte, 1});
  CHECK(byte == 0x01);
  CHECK(c.Get(0x20) == 0);
  CHECK(c.Get(0xFFC) == 0);
}

TEST_CASE("A saved I/O APIC goes on where it was; impossible ones are refused") {
  Chip a, b;
  a.Route(9, 0x8039, 1);
  a.Route(4, 0x34);
  a.ioapic.Set(9, true);
  const IoapicState state = a.ioapic.Save();
  REQUIRE(b.ioapic.Load(state));
  CHECK(b.ioapic.Save() == state);
  CHECK(b.output.sent.empty());
  CHECK_FALSE(b.output.routes[4].masked);
  b.ioapic.OnEoi(0x39);
  CHECK(b.output.Take() == Data{0xC039});
  const auto refused = [&](auto change) {
    IoapicState bad = state;
    change(bad);
    return !b.ioapic.Load(bad).has_value();
  };
  CHECK(refused([](auto& s) { s.version = 2; }));
  CHECK(refused([](auto& s) { s.IOAPICID = 1; }));
  CHECK(refused([](auto& s) { s.lines = 1u << 24; }));
  CHECK(refused([](auto& s) { s.IOREDTBL[3] = 1u << 12; }));
  CHECK(refused([](auto& s) { s.IOREDTBL[3] = 0x4034; }));  // remote IRR of an edge
  CHECK(refused([](auto& s) { s.IOREDTBL[3] = uint64_t{1} << 40; }));
}

TEST_CASE("Whatever a guest writes to the I/O APIC, its state can be saved and loaded") {
  Chip c;
  std::mt19937 random(1);
  for (int i = 0; i < 50'000; ++i) {
    uint64_t value = random();
    const std::span<uint8_t> bytes(reinterpret_cast<uint8_t*>(&value), 1u << random() % 4);
    switch (random() % 4) {
      case 0:
        c.ioapic.Write(random() & 0x53, bytes);
        break;
      case 1:
        c.ioapic.Read(random() & 0xFFF, bytes);
        break;
      case 2:
        c.ioapic.Set(random() % 24, random() & 1);
        break;
      case 3:
        c.PutReg(static_cast<uint8_t>(0x10 + random() % 48), static_cast<uint32_t>(value));
        c.ioapic.OnEoi(static_cast<uint8_t>(value));
        break;
    }
    c.output.sent.clear();
    const IoapicState state = c.ioapic.Save();
    REQUIRE(c.ioapic.Load(state));
    REQUIRE(c.ioapic.Save() == state);
  }
}

TEST_CASE("An ISA interrupt reaches both controllers, the timer at IOAPIC pin 2") {
  struct NoWire final : ExtIntListener {
    void ExtIntChanged() override {}
  } wire;
  Chip c;
  Pic8259Pair pic(wire);
  IrqRouter router(pic, c.ioapic);
  IrqLine& timer = router.Line(Gsi(0));
  IrqLine& serial = router.Line(Gsi(4));
  IrqLine& pci = router.Line(Gsi(20));
  timer.Set(true);
  CHECK(pic.Save().chips[0].IRR == 1);
  CHECK(c.ioapic.Save().lines == 1u << 2);
  serial.Set(true);
  CHECK(pic.Save().chips[0].IRR == 0x11);
  CHECK(c.ioapic.Save().lines == 0x14);
  pci.Set(true);
  CHECK(c.ioapic.Save().lines == 0x100014);
}

TEST_CASE("An interrupt is asserted while any of its sources is") {
  struct NoWire final : ExtIntListener {
    void ExtIntChanged() override {}
  } wire;
  Chip c;
  Pic8259Pair pic(wire);
  IrqRouter router(pic, c.ioapic);
  IrqLine& one = router.Line(Gsi(11));
  IrqLine& two = router.Line(Gsi(11));
  c.Route(11, 0x803B);
  one.Set(true);
  two.Set(true);
  two.Set(true);
  CHECK(c.output.Take() == Data{0xC03B});
  one.Set(false);
  c.ioapic.OnEoi(0x3B);
  CHECK(c.output.Take() == Data{0xC03B});
  two.Set(false);
  c.ioapic.OnEoi(0x3B);
  CHECK(c.output.Take().empty());
}
