#include <catch2/catch.hpp>
#include <random>
#include <thread>

#include "irq_fakes.h"
#include "vmm/core/irq/local_apic.h"

using namespace vmm;
using namespace vmm::test;
using apic::Bit;
using apic::Reg;
using namespace std::chrono_literals;

namespace {

struct NoHost final : LocalApic::Host {
  void OnApicAttention() override {}
};

struct OneCpu {
  FakeTime time;
  FakePic pic;
  FakeEoiListener ioapic;
  ApicBus bus{pic, ioapic};
  NoHost host;
  LocalApic apic{0, time.clock, time.timers, bus, host};

  OneCpu() { Put(Reg::SVR, 0x1ff); }
  uint32_t Get(Reg reg) {
    uint32_t value = 0;
    apic.Read(Bit(reg), {reinterpret_cast<uint8_t*>(&value), 4});
    return value;
  }
  void Put(Reg reg, uint32_t value) {
    apic.Write(Bit(reg), {reinterpret_cast<const uint8_t*>(&value), 4});
  }
  bool Took(int vector) {
    if (apic.Acknowledge() != vector) return false;
    Put(Reg::EOI, 0);
    return true;
  }
};

}  // namespace

TEST_CASE("A one-shot timer counts down at 1 GHz over the divider and interrupts once") {
  OneCpu cpu;
  cpu.Put(Reg::LVT_TIMER, 0xec);
  cpu.Put(Reg::TIMER_DIVIDE, 3);  // by 16 [SDM 3A] figure 10-10
  cpu.Put(Reg::TIMER_INITIAL, 1000);
  cpu.time.Advance(8us);
  CHECK(cpu.Get(Reg::TIMER_CURRENT) == 500);
  CHECK_FALSE(cpu.apic.HasDeliverable());
  cpu.time.Advance(8us);
  CHECK(cpu.Took(0xec));
  CHECK(cpu.Get(Reg::TIMER_CURRENT) == 0);
  CHECK(cpu.Get(Reg::TIMER_INITIAL) == 1000);
  cpu.time.Advance(1s);
  CHECK_FALSE(cpu.apic.HasDeliverable());
}

TEST_CASE("A masked timer counts and does not interrupt; a count of 0 stops it") {
  OneCpu cpu;
  cpu.Put(Reg::TIMER_DIVIDE, 0xb);
  cpu.Put(Reg::TIMER_INITIAL, 0xffffffff);
  cpu.time.Advance(100ms);
  CHECK(cpu.Get(Reg::TIMER_CURRENT) == 0xffffffff - 100'000'000);
  cpu.Put(Reg::TIMER_INITIAL, 10);
  cpu.time.Advance(1us);
  CHECK_FALSE(cpu.apic.HasDeliverable());
  cpu.Put(Reg::LVT_TIMER, 0xec);
  cpu.Put(Reg::TIMER_INITIAL, 1000);
  cpu.Put(Reg::TIMER_INITIAL, 0);
  CHECK(cpu.time.timers.armed_count() == 0);
  cpu.time.Advance(1s);
  CHECK_FALSE(cpu.apic.HasDeliverable());
}

TEST_CASE("A periodic timer keeps its phase; what a busy host missed follows") {
  OneCpu cpu;
  cpu.Put(Reg::LVT_TIMER, 0x200ec);
  cpu.Put(Reg::TIMER_DIVIDE, 0xb);
  cpu.Put(Reg::TIMER_INITIAL, 1'000'000);
  for (int i = 0; i < 3; ++i) {
    cpu.time.Advance(1ms);
    CHECK(cpu.Took(0xec));
  }
  cpu.time.Stall(3'400us);
  CHECK(cpu.Took(0xec));
  CHECK_FALSE(cpu.apic.HasDeliverable());
  CHECK(cpu.Get(Reg::TIMER_CURRENT) == 600'000);
  for (int i = 0; i < 3; ++i) {  // two owed, then the next one, which fell due meanwhile
    cpu.time.Advance(499us);
    CHECK_FALSE(cpu.apic.HasDeliverable());
    cpu.time.Advance(1us);
    CHECK(cpu.Took(0xec));
  }
  cpu.time.Advance(100us);  // on the millisecond: in phase again
  CHECK(cpu.Get(Reg::TIMER_CURRENT) == 1'000'000);
}

TEST_CASE("A periodic timer owes no more than a second's expiries") {
  OneCpu cpu;
  cpu.Put(Reg::LVT_TIMER, 0x200ec);
  cpu.Put(Reg::TIMER_DIVIDE, 0xb);
  cpu.Put(Reg::TIMER_INITIAL, 10'000'000);
  cpu.time.Stall(1h);
  int taken = cpu.Took(0xec);
  for (int i = 0; i < 400; ++i) {
    cpu.time.Advance(5ms);
    taken += cpu.Took(0xec);
  }
  // One at once, 100 of the second before, 200 of the two seconds since.
  CHECK(taken >= 299);
  CHECK(taken <= 302);
  cpu.time.Stall(1s);
  cpu.Put(Reg::TIMER_INITIAL, 0);  // stopped: nothing is owed
  while (cpu.Took(0xec)) {
  }
  cpu.time.Advance(1s);
  CHECK_FALSE(cpu.apic.HasDeliverable());
}

TEST_CASE("The shortest period costs the host no more than one callback in 100 us") {
  OneCpu cpu;
  cpu.Put(Reg::LVT_TIMER, 0x200ec);
  cpu.Put(Reg::TIMER_DIVIDE, 0xb);
  cpu.Put(Reg::TIMER_INITIAL, 1);
  int taken = 0;
  for (int i = 0; i < 1000; ++i) {
    cpu.time.Advance(1us);
    taken += cpu.Took(0xec);
  }
  CHECK(taken >= 9);
  CHECK(taken <= 11);
}

TEST_CASE("A new divider applies to what is left of a running count") {
  OneCpu cpu;
  cpu.Put(Reg::LVT_TIMER, 0xec);
  cpu.Put(Reg::TIMER_DIVIDE, 0xb);
  cpu.Put(Reg::TIMER_INITIAL, 1000);
  cpu.time.Advance(500ns);
  cpu.Put(Reg::TIMER_DIVIDE, 0);  // by 2
  CHECK(cpu.Get(Reg::TIMER_CURRENT) == 500);
  cpu.time.Advance(999ns);
  CHECK_FALSE(cpu.apic.HasDeliverable());
  cpu.time.Advance(1ns);
  CHECK(cpu.Took(0xec));
}

TEST_CASE("TSC-deadline mode interrupts when the guest's TSC reaches the deadline") {
  OneCpu cpu;
  uint64_t value;
  CHECK(cpu.apic.WriteMsr(apic::kMsrTscDeadline, 1'000));  // ignored in other modes
  CHECK((cpu.apic.ReadMsr(apic::kMsrTscDeadline, &value) && value == 0));
  cpu.Put(Reg::LVT_TIMER, 0x400ec);
  cpu.Put(Reg::TIMER_INITIAL, 5);  // [SDM 3A] 10.5.4.1: has no effect
  CHECK(cpu.Get(Reg::TIMER_INITIAL) == 0);
  cpu.time.Advance(1ms);
  CHECK(cpu.apic.WriteMsr(apic::kMsrTscDeadline, 2'000'000 + 3));  // 1.5 ns on: rounds up
  cpu.time.Advance(1ns);
  CHECK_FALSE(cpu.apic.HasDeliverable());
  CHECK((cpu.apic.ReadMsr(apic::kMsrTscDeadline, &value) && value == 2'000'003));
  cpu.time.Advance(1ns);
  CHECK(cpu.Took(0xec));
  CHECK((cpu.apic.ReadMsr(apic::kMsrTscDeadline, &value) && value == 0));
  // A deadline in the past interrupts at once, 0 disarms.
  CHECK(cpu.apic.WriteMsr(apic::kMsrTscDeadline, 1));
  CHECK(cpu.Took(0xec));
  CHECK(cpu.apic.WriteMsr(apic::kMsrTscDeadline, ~uint64_t{0}));
  CHECK(cpu.time.timers.armed_count() == 1);
  CHECK(cpu.apic.WriteMsr(apic::kMsrTscDeadline, 0));
  CHECK(cpu.time.timers.armed_count() == 0);
}

TEST_CASE("The deadline follows the TSC offset, and leaving the mode disarms") {
  OneCpu cpu;
  cpu.time.Advance(1ms);
  cpu.Put(Reg::LVT_TIMER, 0x400ec);
  CHECK(cpu.apic.WriteMsr(apic::kMsrTscDeadline, 4'000'000));
  cpu.apic.SetTscOffset(-1'000'000);  // the guest's clock is set back by 0.5 ms
  cpu.time.Advance(1400us);
  CHECK_FALSE(cpu.apic.HasDeliverable());
  cpu.time.Advance(100us);
  CHECK(cpu.Took(0xec));
  CHECK(cpu.apic.WriteMsr(apic::kMsrTscDeadline, 100'000'000));
  cpu.Put(Reg::LVT_TIMER, 0xec);
  CHECK(cpu.time.timers.armed_count() == 0);
  cpu.time.Advance(1s);
  CHECK_FALSE(cpu.apic.HasDeliverable());
}

TEST_CASE("A saved local APIC goes on where it was") {
  OneCpu a, b;
  a.Put(Reg::LVT_TIMER, 0x200ec);
  a.Put(Reg::LVT_ERROR, 0xfe);
  a.Put(Reg::TIMER_DIVIDE, 0xb);
  a.Put(Reg::TIMER_INITIAL, 1'000'000);
  a.Put(Reg::LDR, 0x01000000);
  a.time.Advance(300us);
  a.bus.SendMsi({0xfee00000, 0xc041});
  REQUIRE(a.apic.Acknowledge() == 0x41);
  a.bus.SendMsi({0xfee00000, 0x55});
  a.bus.SendMsi({0xfee00000, 0x35});
  a.bus.SendMsi({0xfee00000, 0x05});  // an error not yet shown
  const LocalApicState state = a.apic.Save();
  REQUIRE(b.apic.Load(state, a.apic.apic_base()));
  const LocalApicState again = b.apic.Save();
  CHECK(again.regs == state.regs);
  CHECK(again.timer_remaining_ns == 700'000);
  CHECK(b.apic.Acknowledge() == 0xfe);
  b.Put(Reg::EOI, 0);
  CHECK(b.apic.Acknowledge() == 0x55);
  b.Put(Reg::EOI, 0);
  b.Put(Reg::EOI, 0);
  CHECK(b.ioapic.eois == std::vector<int>{0x41});
  CHECK(b.apic.Acknowledge() == 0x35);
  b.Put(Reg::EOI, 0);
  b.Put(Reg::ESR, 0);
  CHECK(b.Get(Reg::ESR) == 0x40);
  b.time.Advance(700us);
  CHECK(b.Took(0xec));
  b.time.Advance(1ms);
  CHECK(b.Took(0xec));
}

TEST_CASE("A saved x2APIC with a TSC deadline goes on where it was") {
  OneCpu a, b;
  REQUIRE(a.apic.WriteMsr(apic::kMsrApicBase, 0xfee00d00));
  REQUIRE(a.apic.WriteMsr(0x832, 0x400ec));
  REQUIRE(a.apic.WriteMsr(apic::kMsrTscDeadline, 4'000'000));
  REQUIRE(b.apic.Load(a.apic.Save(), a.apic.apic_base()));
  CHECK(b.apic.apic_base() == 0xfee00d00);
  b.time.Advance(1ms);
  CHECK_FALSE(b.apic.HasDeliverable());
  b.time.Advance(1ms);
  CHECK(b.apic.Acknowledge() == 0xec);
}

TEST_CASE("State that no local APIC can have is refused and changes nothing") {
  OneCpu cpu;
  const LocalApicState good = cpu.apic.Save();
  const uint64_t base = cpu.apic.apic_base();
  const auto refused = [&](auto change) {
    LocalApicState bad = good;
    change(bad);
    return !cpu.apic.Load(bad, base).has_value();
  };
  CHECK(refused([](auto& s) { s.regs[0x20 / 4] = 5u << 24; }));
  CHECK(refused([](auto& s) { s.regs[0x80 / 4] = 0x100; }));
  CHECK(refused([](auto& s) { s.regs[0x200 / 4] = 1; }));
  CHECK(refused([](auto& s) { s.timer_remaining_ns = 5; }));
  CHECK(refused([](auto& s) { s.timer_remaining_ns = INT64_MIN; }));
  CHECK(refused([](auto& s) { s.tsc_deadline = 5; }));
  CHECK_FALSE(cpu.apic.Load(good, 0xfee00400).has_value());
  CHECK_FALSE(cpu.apic.Load(good, ~uint64_t{0}).has_value());
  CHECK(cpu.apic.Save().regs == good.regs);
}

TEST_CASE("Whatever a guest or a saved state throws at a local APIC, it stands") {
  OneCpu cpu;
  LocalApic& apic = cpu.apic;
  std::mt19937_64 random(1);
  for (int i = 0; i < 100'000; ++i) {
    uint64_t value = random() >> (random() & 63);
    switch (random() % 10) {
      case 0:
      case 1:
      case 2:
        apic.Write(random() & 0xff0, {reinterpret_cast<uint8_t*>(&value), 4});
        break;
      case 3:
        apic.Read(random() & 0xfff, {reinterpret_cast<uint8_t*>(&value), 1u << (random() & 3)});
        break;
      case 4:
      case 5:
        apic.WriteMsr(0x800 + (random() & 0x3f), value);
        break;
      case 6:
        apic.ReadMsr(random() & 1 ? 0x800 + (random() & 0x3f) : apic::kMsrTscDeadline, &value);
        break;
      case 7:
        apic.WriteMsr(apic::kMsrApicBase, 0xfee00000 | (random() & 0xd00));
        apic.WriteMsr(apic::kMsrTscDeadline, value);
        break;
      case 8:
        cpu.bus.SendMsi({0xfee00000 | (value & 0xfffff), static_cast<uint32_t>(random())});
        apic.TakeInit();
        apic.TakeSipi();
        apic.Acknowledge();
        break;
      case 9: {
        cpu.time.Advance(Nanoseconds(random() % 100'000));
        LocalApicState state = apic.Save();
        REQUIRE(apic.Load(state, apic.apic_base()));
        state.regs[random() & 0xff] = static_cast<uint32_t>(random());
        state.timer_remaining_ns = static_cast<int64_t>(random());
        (void)apic.Load(state, value);
        break;
      }
    }
  }
}

TEST_CASE("IPIs from many threads are neither lost nor invented", "[threads]") {
  FakeTime time;
  FakePic pic;
  FakeEoiListener ioapic;
  ApicBus bus(pic, ioapic);
  NoHost host;
  LocalApic target(0, time.clock, time.timers, bus, host),
      one(1, time.clock, time.timers, bus, host), two(2, time.clock, time.timers, bus, host);
  for (LocalApic* apic : {&target, &one, &two}) {
    REQUIRE(apic->WriteMsr(apic::kMsrApicBase, apic->apic_base() | 0xc00));
    REQUIRE(apic->WriteMsr(0x80f, 0x1ff));
  }
  constexpr int kRounds = 2000;
  // Each sender waits until its own vector was taken, so that none may merge.
  std::atomic<int> taken[2] = {0, 0};
  const auto sender = [&](LocalApic& apic, int n) {
    for (int i = 0; i < kRounds; ++i) {
      apic.WriteMsr(0x830, 0x41 + 0x10 * n);
      while (taken[n] != i + 1) std::this_thread::yield();
    }
  };
  std::thread a(sender, std::ref(one), 0), b(sender, std::ref(two), 1);
  bool wrong = false;
  while (taken[0] < kRounds || taken[1] < kRounds) {
    if (!target.HasDeliverable()) {
      std::this_thread::yield();
      continue;
    }
    const int vector = target.Acknowledge();
    wrong |= vector != 0x41 && vector != 0x51;
    target.WriteMsr(0x80b, 0);
    ++taken[vector == 0x51];
  }
  a.join();
  b.join();
  CHECK_FALSE(wrong);
  CHECK_FALSE(target.HasAttention());
}
