#include <catch2/catch.hpp>
#include <string>

#include "uart16550_port.h"

using namespace fakes;
using namespace legacy;
using namespace legacy::uart16550;
using namespace std::chrono_literals;

TEST_CASE("a saved UART continues where it was") {
  Port a;
  a.Open(0xC0);
  a.Out(Reg::SCR, 0x77);
  a.Out(Reg::IER, 0x0F);
  a.In(Reg::IIR);
  a.backend.Type("unread");
  const Uart16550State saved = a.uart.Save();

  Port b;
  REQUIRE(b.uart.Load(saved));
  CHECK(b.uart.Save() == saved);
  CHECK(b.In(Reg::SCR) == 0x77);
  CHECK_FALSE(b.irq.high);
  b.time.Advance(1ms);
  CHECK(b.Identify() == IIR::CharacterTimeout);
  CHECK(b.ReadAll() == "unread");
  CHECK(b.backend.resumed);  // the backend may hold more
}

TEST_CASE("loading a UART sets its line, high or low") {
  Port a;
  a.Out(Reg::MCR, 0x08);
  const Uart16550State quiet = a.uart.Save();
  a.Out(Reg::IER, 0x02);
  const Uart16550State pending = a.uart.Save();
  Port b;
  REQUIRE(b.uart.Load(pending));
  CHECK(b.irq.high);
  REQUIRE(b.uart.Load(quiet));
  CHECK_FALSE(b.irq.high);
}

TEST_CASE("a saved state that no UART could be in is refused and changes nothing") {
  Port p;
  p.Out(Reg::SCR, 0x42);
  const Uart16550State before = p.uart.Save();
  Uart16550State bad = before;
  SECTION("version") {
    bad.version = 2;
  }
  SECTION("IER") {
    bad.IER = vmm::BitRegister<IER>(0x10);
  }
  SECTION("FCR") {
    bad.FCR = vmm::BitRegister<FCR>(0x02);
  }
  SECTION("MCR") {
    bad.MCR = vmm::BitRegister<MCR>(0x20);
  }
  SECTION("LSR") {
    bad.LSR = vmm::BitRegister<LSR>(0x01);
  }
  SECTION("MSR") {
    bad.MSR = vmm::BitRegister<MSR>(0x40);
  }
  SECTION("time-out without a byte") {
    bad.timeout_pending = true;
  }
  SECTION("more than one byte without FIFOs") {
    bad.receiver.Push({});
    bad.receiver.Push({});
  }
  SECTION("errors that a byte can't have") {
    bad.receiver.Push({.errors = 0x01});
  }
  SECTION("more bytes than the line holds") {
    bad.FCR = vmm::BitRegister<FCR>(0x01);
    while (bad.line.Push('x')) continue;
    bad.receiver.Push({.data = 'y', .from_line = true});
  }
  SECTION("polls") {
    bad.idle_polls = 200;
  }
  bad.SCR = 0x00;
  CHECK_FALSE(p.uart.Load(bad));
  CHECK(p.uart.Save() == before);
}

TEST_CASE("reset returns the registers and keeps what was typed on the line") {
  Port p;
  p.Open();
  p.backend.Type("x");
  p.Out(Reg::IER, 0x03);
  p.uart.Reset();
  CHECK_FALSE(p.irq.high);
  CHECK(p.In(Reg::LSR) == 0x60);
  CHECK(p.In(Reg::MCR) == 0x00);
  p.Open();
  CHECK(p.ReadAll() == "x");
}

TEST_CASE("random accesses leave a UART in a state that it would load itself") {
  Port p;
  Random random(1);
  for (int i = 0; i < 20000; ++i) {
    const uint64_t offset = random.Below(10);
    const size_t size = size_t{1} << random.Below(4);
    switch (random.Below(6)) {
      case 0:
      case 1:
        In(p.uart, offset, size);
        break;
      case 2:
      case 3:
        Out(p.uart, offset, random.Next(), size);
        break;
      case 4:
        p.backend.Type("typed");
        if (p.backend.held.size() > 100) p.backend.held.resize(50);
        p.backend.Deliver();
        break;
      case 5:
        p.time.Advance(std::chrono::microseconds(random.Below(500)));
        if (random.Below(50) == 0) p.uart.ReceiveBreak();
        break;
    }
    if (i % 100 == 0) REQUIRE(p.uart.Load(p.uart.Save()));
  }
}
