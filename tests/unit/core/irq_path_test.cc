// The controllers wired together as on the board, with threads for the devices and processors.
#include <atomic>
#include <catch2/catch.hpp>
#include <memory>
#include <thread>

#include "tests/support/fake_clock.h"
#include "vmm/core/irq/apic_bus.h"
#include "vmm/core/irq/irq_router.h"
#include "vmm/core/irq/local_apic.h"

using namespace vmm;

namespace {

struct Machine final : IoapicOutput, ExtIntListener {
  struct Cpu final : LocalApic::Host {
    std::atomic<uint32_t> attention{0};
    void OnApicAttention() override {
      ++attention;
      attention.notify_one();
    }
    // Sleeps as a halted processor does, until there is something.
    void Halt(LocalApic& apic) {
      for (;;) {
        const uint32_t seen = attention;
        if (apic.HasAttention()) return;
        attention.wait(seen);
      }
    }
  };

  FakeClock clock;
  FakeTimers timers{clock};
  Pic8259Pair pic{*this};
  Ioapic ioapic{*this};
  IrqRouter router{pic, ioapic};
  ApicBus bus{pic, ioapic};
  Cpu cpu0, cpu1;
  LocalApic apic0{0, clock, timers, bus, cpu0};
  LocalApic apic1{1, clock, timers, bus, cpu1};

  Machine() {
    for (LocalApic* apic : {&apic0, &apic1}) {
      REQUIRE(apic->WriteMsr(apic::kMsrApicBase, apic->apic_base() | 0xC00));
      REQUIRE(apic->WriteMsr(0x80F, 0x1FF));
    }
  }
  void SendMsi(MsiMessage message) override { bus.SendMsi(message); }
  void ExtIntChanged() override { bus.ExtIntChanged(); }
  void IoapicRouteChanged(unsigned, MsiMessage, bool, bool) override {}

  void Route(unsigned pin, uint32_t low, uint8_t destination) {
    const auto put = [this](uint64_t offset, uint32_t value) {
      ioapic.Write(offset, {reinterpret_cast<const uint8_t*>(&value), 4});
    };
    put(0, 0x11 + 2 * pin);
    put(0x10, uint32_t{destination} << 24);
    put(0, 0x10 + 2 * pin);
    put(0x10, low);
  }
  void InitPic() {
    const auto out = [](Device& device, uint64_t port, uint8_t value) {
      device.Write(port, {&value, 1});
    };
    for (const uint8_t word : {0x30, 0x04, 0x03, 0x00}) {  // automatic EOI, all enabled
      if (word == 0x30) out(pic.master(), 0, 0x11);
      out(pic.master(), 1, word);
    }
  }
};

constexpr int kRounds = 5000;

}  // namespace

TEST_CASE("A level from a device's thread is served once for each time it asks, on either CPU",
          "[threads]") {
  Machine m;
  IrqLine& line = m.router.Line(Gsi(20));
  m.Route(20, 0x8041, 1);
  std::atomic<int> asked{0}, served{0};
  std::thread device([&] {
    for (int i = 0; i < kRounds; ++i) {
      asked = i + 1;
      line.Set(true);
      while (served != i + 1) std::this_thread::yield();
    }
  });
  std::thread processor([&] {
    while (served < kRounds) {
      m.cpu1.Halt(m.apic1);
      const int vector = m.apic1.Acknowledge();
      if (vector != 0x41) continue;
      // The handler: quiets the device, then EOI; an interrupt with nothing to do is spurious.
      line.Set(false);
      served.store(asked);
      m.apic1.WriteMsr(0x80B, 0);
    }
  });
  device.join();
  processor.join();
  CHECK(served == kRounds);
  CHECK_FALSE(m.apic0.HasAttention());
}

TEST_CASE("Interrupts of the 8259 and IPIs wake a halted processor, none is lost", "[threads]") {
  Machine m;
  m.InitPic();
  IrqLine& timer = m.router.Line(Gsi(0));
  std::atomic<int> ticks{0}, ipis{0};
  std::thread device([&] {
    for (int i = 0; i < kRounds; ++i) {
      timer.Set(true);
      timer.Set(false);
      while (ticks != i + 1) std::this_thread::yield();
    }
  });
  std::thread other([&] {
    for (int i = 0; i < kRounds; ++i) {
      m.apic1.WriteMsr(0x830, 0xFD);  // to processor 0
      while (ipis != i + 1) std::this_thread::yield();
    }
  });
  int wrong = 0;
  while (ticks < kRounds || ipis < kRounds) {
    m.cpu0.Halt(m.apic0);
    const int vector = m.apic0.Acknowledge();
    if (vector == 0x30) {
      ++ticks;
    } else if (vector == 0xFD) {
      m.apic0.WriteMsr(0x80B, 0);
      ++ipis;
    } else if (vector != -1) {
      ++wrong;
    }
  }
  device.join();
  other.join();
  CHECK(wrong == 0);
  CHECK(ticks == kRounds);
  CHECK(ipis == kRounds);
}

TEST_CASE("An interrupt moves between processors while its device asks, and is not lost",
          "[threads]") {
  Machine m;
  IrqLine& line = m.router.Line(Gsi(20));
  m.Route(20, 0x8041, 0);
  std::atomic<int> served{0};
  std::atomic<bool> done{false};
  const auto processor = [&](LocalApic& apic) {
    while (!done) {
      if (!apic.HasDeliverable()) {
        std::this_thread::yield();
        continue;
      }
      if (apic.Acknowledge() != 0x41) continue;
      line.Set(false);
      ++served;
      apic.WriteMsr(0x80B, 0);
    }
  };
  std::thread zero(processor, std::ref(m.apic0)), one(processor, std::ref(m.apic1));
  std::thread mover([&] {
    // As Linux sets an affinity: mask, move, unmask.
    for (int i = 0; !done; ++i) {
      m.Route(20, 0x18041, i & 1);
      m.Route(20, 0x8041, i & 1);
      std::this_thread::yield();
    }
  });
  for (int i = 0; i < kRounds; ++i) {
    const int before = served;
    line.Set(true);
    while (served == before) std::this_thread::yield();
  }
  done = true;
  zero.join();
  one.join();
  mover.join();
  CHECK(served >= kRounds);
}
