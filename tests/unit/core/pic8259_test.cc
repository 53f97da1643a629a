#include "vmm/core/irq/pic8259.h"

#include <catch2/catch.hpp>
#include <random>
#include <vector>

using namespace vmm;

namespace {

struct IntrWire final : ExtIntListener {
  int changes = 0;
  void ExtIntChanged() override { ++changes; }
};

// The pair with a kernel's view of it.
struct Pics {
  IntrWire wire;
  Pic8259Pair pic{wire};

  static void Out(Device& device, uint64_t port, uint8_t value) { device.Write(port, {&value, 1}); }
  static uint8_t In(Device& device, uint64_t port) {
    uint8_t value = 0;
    device.Read(port, {&value, 1});
    return value;
  }
  void Master(uint8_t value) { Out(pic.master(), 0, value); }
  void Slave(uint8_t value) { Out(pic.slave(), 0, value); }
  void Mask(uint16_t imr) {
    Out(pic.master(), 1, static_cast<uint8_t>(imr));
    Out(pic.slave(), 1, static_cast<uint8_t>(imr >> 8));
  }
  // As Linux's init_8259A(): vectors 0x30 and 0x38.
  void Init(uint8_t icw4 = 1) {
    Mask(0xFFFF);
    Master(0x11);
    Out(pic.master(), 1, 0x30);
    Out(pic.master(), 1, 0x04);
    Out(pic.master(), 1, icw4);
    Slave(0x11);
    Out(pic.slave(), 1, 0x38);
    Out(pic.slave(), 1, 0x02);
    Out(pic.slave(), 1, 1);
    Mask(0);
  }
  void Pulse(unsigned pin) {
    pic.Set(pin, true);
    pic.Set(pin, false);
  }
  uint8_t MasterIsr() {
    Master(0x0B);
    return In(pic.master(), 0);
  }
  uint8_t MasterIrr() {
    Master(0x0A);
    return In(pic.master(), 0);
  }
  uint8_t SlaveIsr() {
    Slave(0x0B);
    return In(pic.slave(), 0);
  }
  int Take() { return pic.IntrAsserted() ? pic.AcknowledgeInterrupt() : -1; }
};

}  // namespace

TEST_CASE("The 8259s interrupt nobody before they are asked to") {
  Pics p;
  for (unsigned pin = 0; pin < 16; ++pin)
    if (pin != 2) p.Pulse(pin);
  CHECK_FALSE(p.pic.IntrAsserted());
  // The probe of Linux's probe_8259A(): the mask reads back.
  p.Mask(0xFFFB);
  CHECK(Pics::In(p.pic.master(), 1) == 0xFB);
}

TEST_CASE("A request goes into service and blocks its own and lower priorities until EOI") {
  Pics p;
  p.Init();
  p.pic.Set(4, true);
  CHECK(p.pic.IntrAsserted());
  CHECK(p.MasterIrr() == 0x10);
  CHECK(p.Take() == 0x34);
  CHECK(p.MasterIrr() == 0);
  CHECK(p.MasterIsr() == 0x10);
  p.Pulse(5);
  CHECK_FALSE(p.pic.IntrAsserted());  // [8259A] "Fully nested mode"
  p.Pulse(1);
  CHECK(p.Take() == 0x31);
  p.Master(0x20);  // the non-specific EOI ends the highest
  CHECK(p.MasterIsr() == 0x10);
  p.Master(0x64);  // specific EOI
  CHECK(p.MasterIsr() == 0);
  CHECK(p.Take() == 0x35);
}

TEST_CASE("An edge-triggered pin interrupts once while it stays high") {
  Pics p;
  p.Init();
  p.pic.Set(3, true);
  p.pic.Set(3, true);
  CHECK(p.Take() == 0x33);
  p.Master(0x20);
  CHECK(p.Take() == -1);
  p.pic.Set(3, false);
  p.pic.Set(3, true);
  CHECK(p.Take() == 0x33);
}

TEST_CASE("A level-triggered pin interrupts again after EOI until it falls") {
  Pics p;
  p.Init();
  Pics::Out(p.pic.elcr(), 0, 0xFF);
  Pics::Out(p.pic.elcr(), 1, 0xFF);
  CHECK(Pics::In(p.pic.elcr(), 0) == 0xF8);  // [PIIX3] ELCR1: 0, 1, 2 are always edges
  CHECK(Pics::In(p.pic.elcr(), 1) == 0xDE);
  p.pic.Set(5, true);
  CHECK(p.Take() == 0x35);
  CHECK(p.Take() == -1);
  p.Master(0x20);
  CHECK(p.Take() == 0x35);
  p.pic.Set(5, false);
  p.Master(0x20);
  CHECK(p.Take() == -1);
}

TEST_CASE("The slave interrupts through pin 2 and both must be told EOI") {
  Pics p;
  p.Init();
  p.pic.Set(12, true);
  CHECK(p.MasterIrr() == 0x04);
  CHECK(p.Take() == 0x3C);
  CHECK(p.MasterIsr() == 0x04);
  CHECK(p.SlaveIsr() == 0x10);
  p.Pulse(9);  // higher in the slave, the same for the master
  CHECK(p.Take() == -1);
  p.Pulse(0);
  CHECK(p.Take() == 0x30);
  p.Master(0x60);
  p.Slave(0x64);
  CHECK(p.Take() == -1);
  p.Master(0x62);
  CHECK(p.Take() == 0x39);
}

TEST_CASE("In special fully nested mode the slave interrupts itself") {
  Pics p;
  p.Init(0x11);
  p.Pulse(12);
  CHECK(p.Take() == 0x3C);
  p.Pulse(9);
  CHECK(p.Take() == 0x39);  // [8259A] "The special fully nested mode"
  p.Pulse(13);
  CHECK(p.Take() == -1);
}

TEST_CASE("A request that vanished before INTA gives interrupt 7 and nothing is in service") {
  Pics p;
  p.Init();
  Pics::Out(p.pic.elcr(), 0, 0x20);
  p.pic.Set(5, true);
  REQUIRE(p.pic.IntrAsserted());
  p.pic.Set(5, false);
  CHECK_FALSE(p.pic.IntrAsserted());
  CHECK(p.pic.AcknowledgeInterrupt() == 0x37);
  CHECK(p.MasterIsr() == 0);
}

TEST_CASE("A request of the slave that vanished gives interrupt 15, with the master in service") {
  Pics p;
  p.Init();
  Pics::Out(p.pic.elcr(), 1, 0x04);
  p.pic.Set(10, true);
  REQUIRE(p.pic.IntrAsserted());
  p.pic.Set(10, false);
  CHECK(p.pic.AcknowledgeInterrupt() == 0x3F);
  CHECK(p.SlaveIsr() == 0);
  CHECK(p.MasterIsr() == 0x04);
}

TEST_CASE("Masking a request withdraws INTR, unmasking brings it back") {
  Pics p;
  p.Init();
  p.Pulse(4);
  p.Mask(0x10);
  CHECK_FALSE(p.pic.IntrAsserted());
  CHECK(p.MasterIrr() == 0x10);
  p.Mask(0);
  CHECK(p.Take() == 0x34);
}

TEST_CASE("Automatic EOI leaves nothing in service; with rotation everybody gets a turn") {
  Pics p;
  p.Init(0x03);
  p.Pulse(3);
  CHECK(p.Take() == 0x33);
  CHECK(p.MasterIsr() == 0);
  p.Master(0x80);  // [8259A] "Automatic rotation", in AEOI mode
  p.Pulse(1);
  CHECK(p.Take() == 0x31);
  p.Pulse(1);
  p.Pulse(5);
  CHECK(p.Take() == 0x35);  // 1 is last now
  CHECK(p.Take() == 0x31);
  p.Master(0x00);
}

TEST_CASE("Priorities rotate at EOI and by command") {
  Pics p;
  p.Init();
  p.Pulse(4);
  REQUIRE(p.Take() == 0x34);
  p.Master(0xA0);  // rotate on non-specific EOI: 4 is lowest, 5 highest
  p.Pulse(0);
  p.Pulse(4);
  p.Pulse(6);
  CHECK(p.Take() == 0x36);
  p.Master(0xE6);  // rotate on specific EOI
  CHECK(p.Take() == 0x30);
  p.Master(0x20);
  CHECK(p.Take() == 0x34);
  p.Master(0x20);
  p.Master(0xC2);  // set priority: 2 is lowest, 3 highest
  p.Pulse(1);
  p.Pulse(3);
  CHECK(p.Take() == 0x33);
}

TEST_CASE("Special mask mode lets lower priorities through while a masked level is in service") {
  Pics p;
  p.Init();
  p.Pulse(3);
  REQUIRE(p.Take() == 0x33);
  p.Mask(0x08);
  p.Pulse(6);
  CHECK(p.Take() == -1);
  p.Master(0x68);
  CHECK(p.Take() == 0x36);
  p.Master(0x20);  // does not end the masked one
  CHECK(p.MasterIsr() == 0x08);
  p.Master(0x48);
  p.Master(0x20);
  CHECK(p.MasterIsr() == 0);
}

TEST_CASE("A poll is an acknowledge cycle by reading") {
  Pics p;
  p.Init();
  p.Master(0x0C);
  CHECK(Pics::In(p.pic.master(), 0) == 0x00);  // nobody
  p.Pulse(6);
  p.Master(0x0C);
  CHECK(Pics::In(p.pic.master(), 1) == 0x86);  // at either port
  CHECK_FALSE(p.pic.IntrAsserted());
  CHECK(Pics::In(p.pic.master(), 1) == 0x00);  // the mask again
  CHECK(p.MasterIsr() == 0x40);
  p.Master(0x20);
  p.Pulse(11);
  p.Master(0x0C);
  CHECK(Pics::In(p.pic.master(), 0) == 0x82);
  p.Slave(0x0C);
  CHECK(Pics::In(p.pic.slave(), 0) == 0x83);
}

TEST_CASE("ICW1 forgets edges, masks, priorities and modes; nothing interrupts before ICW4") {
  Pics p;
  p.Init();
  p.pic.Set(3, true);
  p.Master(0xC5);
  p.Master(0x68);
  p.Mask(0xFFFF);
  p.Master(0x11);
  CHECK(Pics::In(p.pic.master(), 1) == 0);
  CHECK(p.MasterIrr() == 0);
  p.pic.Set(4, true);
  CHECK_FALSE(p.pic.IntrAsserted());
  Pics::Out(p.pic.master(), 1, 0x50);
  Pics::Out(p.pic.master(), 1, 0x04);
  CHECK_FALSE(p.pic.IntrAsserted());
  Pics::Out(p.pic.master(), 1, 0x01);
  CHECK(p.Take() == 0x54);
}

TEST_CASE("ICW1 may say that ICW3 and ICW4 do not follow") {
  Pics p;
  p.Master(0x12);
  Pics::Out(p.pic.master(), 1, 0x67);
  Pics::Out(p.pic.master(), 1, 0xEF);  // already the mask
  p.Pulse(4);
  CHECK(p.Take() == 0x64);
}

TEST_CASE("INTR changes are told, and only those") {
  Pics p;
  p.Init();
  const int before = p.wire.changes;
  p.Pulse(4);
  CHECK(p.wire.changes == before + 1);
  p.Pulse(3);
  CHECK(p.wire.changes == before + 1);
  p.Mask(0xFFFF);
  CHECK(p.wire.changes == before + 2);
}

TEST_CASE("Saved 8259s go on where they were; impossible ones are refused") {
  Pics a, b;
  a.Init();
  a.Pulse(12);
  REQUIRE(a.Take() == 0x3C);
  a.pic.Set(1, true);
  a.Slave(0xC3);
  a.Master(0x11);
  a.Master(0x0B);
  const Pic8259PairState state = a.pic.Save();
  REQUIRE(b.pic.Load(state));
  CHECK(b.pic.Save() == state);
  const auto refused = [&](auto change) {
    Pic8259PairState bad = state;
    change(bad);
    return !b.pic.Load(bad).has_value() && b.pic.Save() == state;
  };
  CHECK(refused([](auto& s) { s.version = 9; }));
  CHECK(refused([](auto& s) { s.chips[0].ELCR = 1; }));
  CHECK(refused([](auto& s) { s.chips[1].ICW2 = 1; }));
  CHECK(refused([](auto& s) { s.chips[1].highest = 8; }));
  CHECK(refused([](auto& s) { s.chips[0].expects = static_cast<Pic8259ChipState::Expects>(9); }));
  CHECK(refused([](auto& s) { s.chips[0].lines ^= 4; }));
}

TEST_CASE("Whatever a guest writes to the 8259s, their state can be saved and loaded") {
  Pics p;
  std::mt19937 random(1);
  for (int i = 0; i < 50'000; ++i) {
    uint8_t data[4];
    for (uint8_t& byte : data) byte = static_cast<uint8_t>(random());
    Device* devices[] = {&p.pic.master(), &p.pic.slave(), &p.pic.elcr()};
    Device& device = *devices[random() % 3];
    const std::span<uint8_t> bytes(data, 1u << random() % 3);
    switch (random() % 4) {
      case 0:
        device.Write(random() % 3, bytes);
        break;
      case 1:
        device.Read(random() % 3, bytes);
        break;
      case 2:
        if (const unsigned pin = random() % 16; pin != 2) p.pic.Set(pin, random() & 1);
        break;
      case 3:
        p.pic.AcknowledgeInterrupt();
        break;
    }
    const bool intr = p.pic.IntrAsserted();
    REQUIRE(p.pic.Load(p.pic.Save()));
    REQUIRE(p.pic.IntrAsserted() == intr);
  }
}
