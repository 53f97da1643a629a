// [HPET] 2.3: registers, counter, comparators and routes, as operating systems use them.
#include "legacy-devices/hpet.h"

#include <catch2/catch.hpp>
#include <chrono>

#include "../support/fakes.h"

using namespace fakes;
using namespace legacy;
using namespace std::chrono_literals;

namespace {

constexpr uint64_t kConfiguration = 0x10, kStatus = 0x20, kCounter = 0xF0;
constexpr uint64_t Conf(unsigned timer) {
  return 0x100 + 0x20 * timer;
}
constexpr uint64_t Comp(unsigned timer) {
  return 0x108 + 0x20 * timer;
}
// Tn_CONF
constexpr uint64_t kLevel = 2, kEnable = 4, kPeriodic = 8, kSetValue = 0x40, k32Bits = 0x100;
constexpr uint64_t Route(unsigned pin) {
  return uint64_t{pin} << 9;
}

struct Rig {
  legacy::Hpet::Wires Wires() {
    legacy::Hpet::Wires wires{.pins = {}, .irq0 = irq0, .irq8 = irq8};
    for (unsigned timer = 0; timer < 3; ++timer) {
      for (unsigned pin = 0; pin < 4; ++pin) wires.pins[timer][pin] = &pins[timer][pin];
    }
    return wires;
  }
  void Start() { Out(hpet, kConfiguration, 1, 4); }
  FakeIrqLine& Pin(unsigned timer, unsigned pin) { return pins[timer][pin - 20]; }

  FakeTime time;
  FakeIrqLine wire0, wire8;
  vmm::IrqSwitch irq0{wire0}, irq8{wire8};
  FakeIrqLine pins[3][4];
  legacy::Hpet hpet{Wires(), time, time};
};

}  // namespace

TEST_CASE("The HPET tells its period, its three timers and that it does legacy routes") {
  Rig rig;
  const uint64_t capabilities = In(rig.hpet, 0, 8);
  CHECK(capabilities >> 32 == 10'000'000);           // femtoseconds. 2.3.4
  CHECK((capabilities >> 32) <= 0x05F5E100);         // the most that is allowed
  CHECK((capabilities & 0xFFFFFFFF) == 0x8086A201);  // 64 bits, legacy, timers - 1, revision
  CHECK(In(rig.hpet, 4, 4) == 10'000'000);
  for (unsigned timer = 0; timer < 3; ++timer) {
    CHECK(In(rig.hpet, Conf(timer), 8) == 0x00F00000'00000030);
    CHECK(In(rig.hpet, Comp(timer), 8) == ~uint64_t{0});  // 2.3.9: the default
  }
  CHECK(In(rig.hpet, Conf(3), 8) == 0);
  CHECK(In(rig.hpet, kConfiguration, 8) == 0);
  Out(rig.hpet, 0, ~uint64_t{0}, 8);
  CHECK(In(rig.hpet, 0, 8) == capabilities);
}

TEST_CASE("The HPET's counter stands still until it is enabled and keeps its count when stopped") {
  Rig rig;
  rig.time.Advance(1ms);
  CHECK(In(rig.hpet, kCounter, 8) == 0);
  rig.Start();
  rig.time.Advance(1ms);
  CHECK(In(rig.hpet, kCounter, 8) == 100'000);
  Out(rig.hpet, kConfiguration, 0, 4);
  rig.time.Advance(1ms);
  CHECK(In(rig.hpet, kCounter, 8) == 100'000);
  // 2.3.7: written while halted, by halves as a 32-bit driver does.
  Out(rig.hpet, kCounter, 0xFFFFFFFF, 4);
  Out(rig.hpet, kCounter + 4, 1, 4);
  rig.Start();
  rig.time.Advance(20ns);
  CHECK(In(rig.hpet, kCounter, 8) == 0x2'00000001);
  CHECK(In(rig.hpet, kCounter + 4, 4) == 2);
}

TEST_CASE("A one-shot edge comes once, where it is routed to, when the counter meets it") {
  Rig rig;
  rig.Start();
  Out(rig.hpet, Conf(1), kEnable | Route(21), 4);
  Out(rig.hpet, Comp(1), In(rig.hpet, kCounter, 8) + 1'000, 8);
  rig.time.Advance(9'990ns);
  CHECK(rig.Pin(1, 21).rises == 0);
  rig.time.Advance(10ns);
  CHECK(rig.Pin(1, 21).rises == 1);
  CHECK_FALSE(rig.Pin(1, 21).high);
  CHECK(In(rig.hpet, kStatus, 8) == 0);  // 2.3.6: no bit for an edge
  rig.time.Advance(100s);
  CHECK(rig.Pin(1, 21).rises == 1);
  CHECK(rig.time.armed() == 0);
  CHECK(In(rig.hpet, Comp(1), 8) == 1'000);
}

TEST_CASE("A comparator that was passed waits; in 32 bits it is met at the next wrap") {
  // 2.3.9.2.1
  Rig rig;
  rig.Start();
  rig.time.Advance(1ms);
  Out(rig.hpet, Conf(0), kEnable | Route(20), 4);
  Out(rig.hpet, Comp(0), 5, 8);
  rig.time.Advance(1h);
  CHECK(rig.Pin(0, 20).rises == 0);

  Out(rig.hpet, Conf(0), kEnable | k32Bits | Route(20), 4);
  const uint64_t now = In(rig.hpet, kCounter, 4);
  Out(rig.hpet, Comp(0), now - 5, 4);
  CHECK(In(rig.hpet, Comp(0), 8) == now - 5);
  const auto wrap = std::chrono::nanoseconds((uint64_t{1} << 32) * 10);
  rig.time.Advance(wrap - 100ns);
  CHECK(rig.Pin(0, 20).rises == 0);
  rig.time.Advance(100ns);
  CHECK(rig.Pin(0, 20).rises == 1);
  rig.time.Advance(wrap);
  CHECK(rig.Pin(0, 20).rises == 2);
}

TEST_CASE("A periodic timer set as Linux does it ticks, and its comparator runs ahead") {
  // 2.3.9.2.2; hpet_clkevt_set_state_periodic: comparator, then the period
  Rig rig;
  rig.Start();
  rig.time.Advance(1ms);
  const uint64_t now = In(rig.hpet, kCounter, 4), period = 400'000;  // 250 Hz
  Out(rig.hpet, Conf(0), kEnable | kPeriodic | kSetValue | k32Bits | Route(20), 4);
  Out(rig.hpet, Comp(0), now + period, 4);
  CHECK((In(rig.hpet, Conf(0), 4) & kSetValue) == 0);  // clears itself
  Out(rig.hpet, Comp(0), period, 4);
  CHECK(In(rig.hpet, Comp(0), 4) == now + period);
  for (int i = 1; i <= 1000; ++i) {
    rig.time.Advance(4ms);
    REQUIRE(rig.Pin(0, 20).rises == i);
  }
  CHECK(In(rig.hpet, Comp(0), 4) == now + 1001 * period);
}

TEST_CASE("Ticks that a busy host missed follow at twice the rate, a second's worth at most") {
  Rig rig;
  rig.Start();
  Out(rig.hpet, Conf(0), kEnable | kPeriodic | kSetValue | Route(20), 4);
  Out(rig.hpet, Comp(0), 1'000'000, 8);  // 10 ms
  rig.time.Stall(100ms);
  CHECK(rig.Pin(0, 20).rises == 1);
  rig.time.Advance(5ms);
  CHECK(rig.Pin(0, 20).rises == 2);
  rig.time.Advance(95ms);
  CHECK(rig.Pin(0, 20).rises == 20);  // all of 200 ms
  rig.time.Advance(100ms);
  CHECK(rig.Pin(0, 20).rises == 30);  // and the ordinary rate again
  rig.time.Stall(1h);
  rig.time.Advance(10s);
  CHECK(rig.Pin(0, 20).rises == 30 + 100 + 1000);
}

TEST_CASE("A level stays until its status bit is written, also when it is due again") {
  // 2.3.6
  Rig rig;
  rig.Start();
  Out(rig.hpet, Conf(2), kLevel | kEnable | kPeriodic | kSetValue | Route(23), 4);
  Out(rig.hpet, Comp(2), 100'000, 8);
  rig.time.Advance(1ms);
  CHECK(rig.Pin(2, 23).high);
  CHECK(In(rig.hpet, kStatus, 4) == 4);
  Out(rig.hpet, kStatus, 3, 4);
  CHECK(rig.Pin(2, 23).high);
  Out(rig.hpet, kStatus, 4, 4);
  CHECK_FALSE(rig.Pin(2, 23).high);
  rig.time.Advance(3ms);  // three of which one shows
  CHECK(rig.Pin(2, 23).rises == 2);
  Out(rig.hpet, kStatus, 4, 4);
  CHECK(rig.Pin(2, 23).high);  // the next comes at once
  CHECK(In(rig.hpet, kStatus, 4) == 4);
  Out(rig.hpet, kStatus, 4, 4);
  CHECK_FALSE(rig.Pin(2, 23).high);  // the last half a period later
  rig.time.Advance(500us);
  CHECK(rig.Pin(2, 23).rises == 3);
  Out(rig.hpet, kStatus, 4, 4);
  rig.time.Advance(499us);
  CHECK(rig.Pin(2, 23).rises == 3);
  rig.time.Advance(1us);
  CHECK(rig.Pin(2, 23).rises == 4);
  Out(rig.hpet, kConfiguration, 0, 4);  // halted: no timer interrupts. 2.3.5
  CHECK_FALSE(rig.Pin(2, 23).high);
  CHECK(In(rig.hpet, kStatus, 4) == 4);
  Out(rig.hpet, Conf(2), kLevel | kPeriodic | Route(23), 4);
  rig.Start();
  CHECK_FALSE(rig.Pin(2, 23).high);  // masked; the status bit still tells
  CHECK(In(rig.hpet, kStatus, 4) == 4);
}

TEST_CASE("Legacy routes put timers 0 and 1 on the wires of the 8254 and the RTC") {
  // 2.3.5 (LEG_RT_CNF)
  Rig rig;
  rig.irq0.first().Set(true);
  rig.irq0.first().Set(false);
  CHECK(rig.wire0.rises == 1);
  Out(rig.hpet, kConfiguration, 3, 4);
  Out(rig.hpet, Conf(0), kEnable | Route(20), 4);
  Out(rig.hpet, Conf(1), kEnable | Route(20), 4);
  Out(rig.hpet, Conf(2), kEnable | Route(20), 4);
  for (unsigned timer = 0; timer < 3; ++timer) Out(rig.hpet, Comp(timer), 1'000, 8);
  rig.irq0.first().Set(true);  // the 8254 is cut off
  rig.irq8.first().Set(true);
  rig.time.Advance(10us);
  CHECK(rig.wire0.rises == 2);
  CHECK(rig.wire8.rises == 1);
  CHECK(rig.Pin(0, 20).rises + rig.Pin(1, 20).rises == 0);
  CHECK(rig.Pin(2, 20).rises == 1);
  CHECK_FALSE(rig.wire8.high);
  Out(rig.hpet, kConfiguration, 1, 4);
  CHECK(rig.wire0.high);  // what the 8254 says meanwhile
  CHECK(rig.wire8.high);
}

TEST_CASE("A route that the HPET does not offer does not stick, and without one nothing comes") {
  // 2.3.8 (Tn_INT_ROUTE_CNF): software reads back to find out
  Rig rig;
  rig.Start();
  for (unsigned pin : {1u, 2u, 8u, 16u, 19u, 24u, 31u}) {
    Out(rig.hpet, Conf(0), kEnable | Route(pin), 4);
    CHECK((In(rig.hpet, Conf(0), 4) & Route(31)) == 0);
  }
  Out(rig.hpet, Conf(0), kEnable | Route(22), 4);
  Out(rig.hpet, Conf(0), kEnable | Route(2), 4);
  CHECK((In(rig.hpet, Conf(0), 4) & Route(31)) == Route(22));
  Out(rig.hpet, Conf(0), 1u << 14 | kEnable, 4);  // no message interrupts
  CHECK((In(rig.hpet, Conf(0), 4) & 0xC000) == 0);
}

TEST_CASE("The fastest HPET timer leaves the host in peace") {
  Rig rig;
  rig.Start();
  Out(rig.hpet, Conf(0), kEnable | kPeriodic | kSetValue | Route(20), 4);
  Out(rig.hpet, Comp(0), 1, 8);
  rig.time.Advance(100ms);
  CHECK(rig.Pin(0, 20).rises <= 1001);
  CHECK(rig.Pin(0, 20).rises >= 999);
}

TEST_CASE("A saved HPET goes on where it was, on another clock") {
  Rig a;
  a.time.Advance(7ms);
  a.Start();
  Out(a.hpet, Conf(0), kEnable | kPeriodic | kSetValue | Route(20), 4);
  Out(a.hpet, Comp(0), 300'000, 8);
  Out(a.hpet, Conf(1), kLevel | kEnable | k32Bits | Route(21), 4);
  Out(a.hpet, Comp(1), 50'000, 4);
  a.time.Advance(1ms);
  a.time.Stall(13ms);
  const HpetState saved = a.hpet.Save();
  CHECK(saved.MAIN_CNT == 1'400'000);
  CHECK(saved.timers[0].owed == 3);

  Rig b;
  b.time.Advance(1h);
  REQUIRE(b.hpet.Load(saved));
  CHECK(b.Pin(1, 21).high);
  CHECK(b.Pin(0, 20).rises == 1);  // the first of those owed
  b.time.Advance(1ms);
  CHECK(In(b.hpet, kCounter, 8) == 1'500'000);
  b.time.Advance(29ms);
  a.time.Advance(30ms);
  CHECK(a.Pin(0, 20).rises == 14);
  CHECK(b.Pin(0, 20).rises == 14 - 1);  // one was delivered before the save
  HpetState later_a = a.hpet.Save(), later_b = b.hpet.Save();
  CHECK(later_a == later_b);

  b.hpet.Reset();
  CHECK(b.hpet.Save() == HpetState{});
  CHECK_FALSE(b.Pin(1, 21).high);
}

TEST_CASE("An HPET refuses a state that it could not be in") {
  Rig rig;
  HpetState state = rig.hpet.Save();
  SECTION("version") {
    state.version = 2;
  }
  SECTION("general configuration") {
    state.GEN_CONF = vmm::BitRegister<hpet::GEN_CONF>(4);
  }
  SECTION("status") {
    state.GINTR_STA = 8;
  }
  SECTION("read-only bits") {
    state.timers[1].CONF = vmm::BitRegister<hpet::CONF>(0x10);
  }
  SECTION("route") {
    state.timers[1].CONF = vmm::BitRegister<hpet::CONF>(Route(19));
  }
  SECTION("comparator of more than 32 bits") {
    state.timers[1].CONF = vmm::BitRegister<hpet::CONF>(k32Bits);
  }
  SECTION("period of more than 32 bits") {
    state.timers[1].CONF = vmm::BitRegister<hpet::CONF>(k32Bits);
    state.timers[1].COMP = 0;
    state.timers[1].period = uint64_t{1} << 32;
  }
  SECTION("the accumulator of no periodic timer") {
    state.timers[1].CONF = vmm::BitRegister<hpet::CONF>(kSetValue);
  }
  SECTION("owed less than nothing") {
    state.timers[0].CONF = vmm::BitRegister<hpet::CONF>(kEnable);
    state.timers[0].owed = -1;
  }
  SECTION("owed by a timer that does not interrupt") {
    state.timers[0].owed = 1;
  }
  CHECK_FALSE(rig.hpet.Load(state));
}

TEST_CASE("Random accesses of any size leave the HPET in a state that it would load itself") {
  Rig rig;
  Random random(11);
  for (int i = 0; i < 20'000; ++i) {
    const size_t size = size_t{1} << random.Below(4);
    const uint64_t offset = random.Below(2) ? random.Below(0x170) : random.Below(3) * 0x20 + 0x100;
    if (random.Below(3)) {
      Out(rig.hpet, offset, random.Next() >> random.Below(64), size);
    } else {
      In(rig.hpet, offset, size);
    }
    if (random.Below(4) == 0) rig.time.Advance(std::chrono::nanoseconds(random.Below(2'000'000)));
    const HpetState saved = rig.hpet.Save();
    REQUIRE(rig.hpet.Load(saved));
  }
}

TEST_CASE("A read of the HPET over the end of a register goes on in the next") {
  Rig rig;
  CHECK(In(rig.hpet, 6, 4) == (10'000'000 >> 16));
  CHECK(In(rig.hpet, 0, 1) == 0x01);
  CHECK(In(rig.hpet, 3, 1) == 0x80);
  Out(rig.hpet, kConfiguration, 1, 1);
  rig.time.Advance(10us);
  CHECK(In(rig.hpet, kCounter, 2) == 1000);
  CHECK(In(rig.hpet, 0x3FF, 8) == 0);
}
