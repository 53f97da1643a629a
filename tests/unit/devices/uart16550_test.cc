#include <catch2/catch.hpp>
#include <string>

#include "uart16550_port.h"

using namespace fakes;
using namespace legacy;
using namespace legacy::uart16550;
using namespace std::chrono_literals;

TEST_CASE("a 16550A comes out of reset as the data sheet says") {  // [16550] Table I
  Port p;
  CHECK(p.In(Reg::IER) == 0x00);
  CHECK(p.In(Reg::IIR) == 0x01);
  CHECK(p.In(Reg::LCR) == 0x00);
  CHECK(p.In(Reg::MCR) == 0x00);
  CHECK(p.In(Reg::LSR) == 0x60);
  CHECK(p.In(Reg::MSR) == 0xB0);  // the peer is there; no deltas
  CHECK_FALSE(p.irq.high);
}

TEST_CASE("the unused bits of IER and MCR read as zero") {  // [16550] 8.6, 8.7
  Port p;
  p.Out(Reg::IER, 0xFF);
  CHECK(p.In(Reg::IER) == 0x0F);
  p.Out(Reg::MCR, 0xFF);
  CHECK(p.In(Reg::MCR) == 0x1F);
}

TEST_CASE("the scratch register holds a byte") {  // [16550] 8.9
  Port p;
  p.Out(Reg::SCR, 0xA5);
  CHECK(p.In(Reg::SCR) == 0xA5);
}

TEST_CASE("DLAB turns the first two registers into the divisor latch") {  // [16550] 8.2
  Port p;
  p.Out(Reg::LCR, 0x80);
  p.Out(Reg::DLL, 0x34);
  p.Out(Reg::DLM, 0x12);
  CHECK(p.In(Reg::DLL) == 0x34);
  CHECK(p.In(Reg::DLM) == 0x12);
  p.Out(Reg::LCR, 0x03);
  CHECK(p.In(Reg::IER) == 0x00);
  CHECK(p.backend.output.empty());
}

TEST_CASE("IIR tells a 16550A from a 16450 by its top bits") {  // [16550] 8.5
  Port p;
  CHECK((p.In(Reg::IIR) & 0xC0) == 0x00);
  p.Out(Reg::FCR, 0x01);
  CHECK((p.In(Reg::IIR) & 0xC0) == 0xC0);
}

TEST_CASE("what is written to THR reaches the host at once, whatever the divisor and word length") {
  Port p;
  for (char c : std::string("hi\xFF")) p.Out(Reg::THR, static_cast<uint8_t>(c));
  CHECK(p.backend.output == "hi\xFF");
  CHECK(p.In(Reg::LSR) == 0x60);
}

TEST_CASE("nothing is sent while the break is set") {  // [16550] 8.1
  Port p;
  p.Out(Reg::LCR, 0x43);
  p.Out(Reg::THR, 'x');
  CHECK(p.backend.output.empty());
  p.Out(Reg::LCR, 0x03);
  p.Out(Reg::THR, 'y');
  CHECK(p.backend.output == "y");
}

TEST_CASE("enabling the THRE interrupt raises it, reading IIR clears it") {  // [16550] Table IV
  Port p;
  p.Out(Reg::MCR, 0x08);
  p.Out(Reg::IER, 0x02);
  CHECK(p.irq.high);
  CHECK(p.Identify() == IIR::ThrEmpty);
  CHECK_FALSE(p.irq.high);
  CHECK(p.Identify() == IIR::NoInterrupt);

  SECTION("writing the same value again doesn't raise it, switching it off and on does") {
    p.Out(Reg::IER, 0x02);
    CHECK_FALSE(p.irq.high);
    p.Out(Reg::IER, 0x00);
    p.Out(Reg::IER, 0x02);
    CHECK(p.irq.high);
  }
  SECTION("writing THR raises it again, since the byte is gone at once") {
    p.Out(Reg::THR, 'x');
    CHECK(p.irq.high);
    CHECK(p.Identify() == IIR::ThrEmpty);
  }
}

TEST_CASE(
    "a driver that never reads IIR gets an edge for each byte it sends") {  // [16550] Table IV
  Port p;
  p.Out(Reg::MCR, 0x08);
  p.Out(Reg::IER, 0x02);
  REQUIRE(p.irq.rises == 1);
  p.Out(Reg::THR, 'x');
  CHECK(p.irq.rises == 2);
}

TEST_CASE("the interrupt reaches the bus only through OUT2") {  // [PC-AT] serial adapter
  Port p;
  p.Out(Reg::IER, 0x02);
  CHECK_FALSE(p.irq.high);
  CHECK(p.Identify() == IIR::ThrEmpty);
  p.Out(Reg::IER, 0x00);
  p.Out(Reg::IER, 0x02);
  p.Out(Reg::MCR, 0x08);
  CHECK(p.irq.high);
  p.Out(Reg::MCR, 0x18);  // loopback forces OUT2 off
  CHECK_FALSE(p.irq.high);
}

TEST_CASE("the receiver interrupt comes at the trigger level and goes below it") {  // [16550] 8.4
  const auto [trigger, level] =
      GENERATE(table<unsigned, size_t>({{0x00, 1}, {0x40, 4}, {0x80, 8}, {0xC0, 14}}));
  Port p;
  p.Open(trigger);
  p.backend.Type(std::string(level - 1, 'a'));
  CHECK_FALSE(p.irq.high);
  p.backend.Type("b");
  CHECK(p.irq.high);
  CHECK(p.Identify() == IIR::ReceivedDataAvailable);
  p.In(Reg::RBR);
  CHECK_FALSE(p.irq.high);
}

TEST_CASE("without FIFOs every byte raises the receiver interrupt") {  // [16550] Table IV
  Port p;
  p.Open();
  p.Out(Reg::FCR, 0x00);
  p.backend.Type("ab");
  CHECK(p.backend.held.size() == 1);
  CHECK(p.Identify() == IIR::ReceivedDataAvailable);
  CHECK(p.In(Reg::LSR) == 0x61);
  CHECK(p.In(Reg::RBR) == 'a');
  CHECK_FALSE(p.irq.high);
  p.backend.Deliver();
  CHECK(p.irq.high);
  CHECK(p.In(Reg::RBR) == 'b');
  CHECK(p.In(Reg::RBR) == 'b');  // the register keeps it
}

TEST_CASE("bytes below the trigger level are reported after four characters' time") {
  // [16550] 8.10: 4 × 10 bits at 115200 baud are 347 µs.
  Port p;
  p.Open();
  p.backend.Type("a");
  p.time.Advance(340us);
  CHECK_FALSE(p.irq.high);
  p.time.Advance(10us);
  CHECK(p.irq.high);
  CHECK(p.In(Reg::IIR) == 0xCC);
  CHECK(p.In(Reg::RBR) == 'a');
  CHECK_FALSE(p.irq.high);
  p.time.Advance(10ms);
  CHECK(p.Identify() == IIR::NoInterrupt);
}

TEST_CASE("each byte that comes or is read starts the time-out afresh") {  // [16550] 8.10
  Port p;
  p.Open();
  p.backend.Type("a");
  p.time.Advance(300us);
  p.backend.Type("b");
  p.time.Advance(300us);
  CHECK_FALSE(p.irq.high);
  p.In(Reg::RBR);
  p.time.Advance(300us);
  CHECK_FALSE(p.irq.high);
  p.time.Advance(50us);
  CHECK(p.Identify() == IIR::CharacterTimeout);
  CHECK(p.time.armed() == 0);
}

TEST_CASE("a slow divisor doesn't make the time-out slow") {
  Port p;
  p.Open();
  p.Out(Reg::LCR, 0x83);
  p.Out(Reg::DLM, 0xFF);
  p.Out(Reg::LCR, 0x03);
  p.backend.Type("a");
  p.time.Advance(5ms);
  CHECK(p.irq.high);
}

TEST_CASE("interrupts are identified in the order of Table IV") {  // [16550] 8.5
  Port p;
  p.Open(0x00);
  p.uart.ReceiveBreak();
  p.Out(Reg::IER, 0x0F);
  p.Out(Reg::MCR, 0x1B);  // loopback changes the modem inputs
  p.Out(Reg::MCR, 0x18);
  CHECK(p.Identify() == IIR::ReceiverLineStatus);
  p.In(Reg::LSR);
  CHECK(p.Identify() == IIR::ReceivedDataAvailable);
  p.In(Reg::RBR);
  CHECK(p.Identify() == IIR::ThrEmpty);
  CHECK(p.Identify() == IIR::ModemStatus);
  p.In(Reg::MSR);
  CHECK(p.Identify() == IIR::NoInterrupt);
}

TEST_CASE("loopback brings the outputs to the inputs, with their changes") {  // [16550] 8.7, 8.8
  Port p;
  p.Out(Reg::MCR, 0x1A);  // LOOP, OUT2, RTS: what Linux probes with
  CHECK((p.In(Reg::MSR) & 0xF0) == 0x90);
  p.Out(Reg::MCR, 0x15);                   // DTR, OUT1
  CHECK(p.In(Reg::MSR) == (0x60 | 0x0B));  // DCTS, DDSR, DDCD; RI rose, which TERI doesn't count
  CHECK(p.In(Reg::MSR) == 0x60);
  p.Out(Reg::MCR, 0x11);
  CHECK(p.In(Reg::MSR) == (0x20 | 0x04));  // TERI
  p.Out(Reg::MCR, 0x00);
  CHECK((p.In(Reg::MSR) & 0xF0) == 0xB0);
}

TEST_CASE("loopback brings what is sent back to the receiver and not to the host") {
  // [16550] 8.7
  Port p;
  p.Out(Reg::LCR, 0x02);  // 7 bits
  p.Out(Reg::FCR, 0x07);
  p.Out(Reg::MCR, 0x10);
  p.Out(Reg::THR, 0xAE);
  CHECK(p.backend.output.empty());
  CHECK(p.In(Reg::LSR) == 0x61);
  CHECK(p.In(Reg::RBR) == 0x2E);
  CHECK(p.In(Reg::LSR) == 0x60);
}

TEST_CASE("the receiver FIFO is sixteen deep, and the seventeenth byte is an overrun") {
  // [16550] 8.3 (OE): the FIFO keeps what it has.
  Port p;
  p.Out(Reg::LCR, 0x03);
  p.Out(Reg::FCR, 0x07);
  p.Out(Reg::MCR, 0x10);
  for (unsigned i = 0; i < 256; ++i) p.Out(Reg::THR, i);
  CHECK(p.In(Reg::LSR) == 0x63);
  CHECK(p.In(Reg::LSR) == 0x61);
  for (unsigned i = 0; i < 16; ++i) CHECK(p.In(Reg::RBR) == i);
  CHECK(p.In(Reg::LSR) == 0x60);
}

TEST_CASE("without FIFOs an overrun keeps the newest byte") {  // [16550] 8.3 (OE)
  Port p;
  p.Out(Reg::LCR, 0x03);
  p.Out(Reg::MCR, 0x10);
  p.Out(Reg::THR, 'a');
  p.Out(Reg::THR, 'b');
  CHECK(p.In(Reg::LSR) == 0x63);
  CHECK(p.In(Reg::RBR) == 'b');
}

TEST_CASE("a break is one zero byte whose error shows when it is next to be read") {
  // [16550] 8.3 (BI), and bit 7: an error somewhere in the FIFO
  Port p;
  p.Open(0x00);
  p.backend.Type("a");
  p.uart.ReceiveBreak();
  CHECK(p.In(Reg::LSR) == 0xE1);
  CHECK(p.In(Reg::RBR) == 'a');
  CHECK(p.In(Reg::LSR) == (0xE1 | 0x18));
  CHECK(p.In(Reg::LSR) == 0x61);
  CHECK(p.In(Reg::RBR) == 0);
  CHECK(p.In(Reg::LSR) == 0x60);
}

TEST_CASE("in loopback the receiver sees its own break") {  // [16550] 8.7
  Port p;
  p.Out(Reg::FCR, 0x01);
  p.Out(Reg::MCR, 0x10);
  p.Out(Reg::LCR, 0x43);
  CHECK(p.In(Reg::LSR) == (0xE1 | 0x18));
}

TEST_CASE("a FIFO reset clears what the loopback left") {  // [16550] 8.4
  Port p;
  p.Out(Reg::FCR, 0x01);
  p.Out(Reg::MCR, 0x10);
  p.Out(Reg::THR, 'a');
  SECTION("by its bit") {
    p.Out(Reg::FCR, 0x03);
  }
  SECTION("by leaving FIFO mode") {
    p.Out(Reg::FCR, 0x00);
  }
  CHECK(p.In(Reg::LSR) == 0x60);
}

TEST_CASE("input that comes before the guest listens is held back and not lost") {
  Port p;
  p.backend.Type("ls\n");
  CHECK(p.backend.held.size() == 3);

  SECTION("until the receiver interrupt is enabled") {
    // What a console driver does while it only sends.
    for (char c : std::string("booting")) {
      p.In(Reg::LSR);
      p.Out(Reg::THR, static_cast<uint8_t>(c));
    }
    p.In(Reg::LSR);
    p.In(Reg::LSR);
    CHECK_FALSE(p.backend.resumed);
    p.Open();
  }
  SECTION("until it polls for a byte") {
    for (int i = 0; i < 4; ++i) CHECK((p.In(Reg::LSR) & 1) == 0);
  }
  p.backend.Deliver();
  std::string got;
  for (int i = 0; i < 3; ++i) {
    got += p.ReadAll();
    p.backend.Deliver();
  }
  CHECK(got == "ls\n");
}

TEST_CASE("a driver that clears the FIFOs after it enabled the receiver loses nothing") {
  // Linux serial8250_do_set_termios: IER first, the FIFO reset after it.
  Port p;
  p.Open();
  p.backend.Type("echo hello\n");
  p.Out(Reg::FCR, 0x01);
  p.Out(Reg::FCR, 0x87);
  CHECK(p.ReadAll() == "echo hello\n");

  SECTION("nor one that closes the port and opens it again") {
    p.backend.Type("typed between");
    p.Out(Reg::IER, 0x00);
    p.Out(Reg::FCR, 0x07);
    p.Out(Reg::FCR, 0x00);
    p.In(Reg::LSR);
    p.In(Reg::RBR);
    CHECK((p.In(Reg::LSR) & 1) == 0);
    p.backend.Type(" and after");
    p.Open();
    std::string got;
    for (int i = 0; i < 3; ++i) {
      p.backend.Deliver();
      got += p.ReadAll();
    }
    CHECK(got == "typed between and after");
  }
}

TEST_CASE("a long paste arrives whole, sixteen bytes at a time") {
  Port p;
  p.Open();
  std::string paste;
  for (int i = 0; i < 1000; ++i) paste += static_cast<char>('a' + i % 26);
  p.backend.Type(paste);
  CHECK(p.backend.held.size() == 1000 - 16);
  std::string got;
  for (int rounds = 0; rounds < 100 && got.size() < paste.size(); ++rounds) {
    got += p.ReadAll();
    p.backend.Deliver();
  }
  CHECK(got == paste);
}

TEST_CASE("a guest that drops RTS while it receives is left in peace until it raises it") {
  Port p;
  p.Open();
  p.Out(Reg::MCR, 0x09);
  p.backend.Type("x");
  CHECK(p.backend.held.size() == 1);
  p.Out(Reg::MCR, 0x0B);
  p.backend.Deliver();
  CHECK(p.ReadAll() == "x");
}

TEST_CASE("Linux 8250 probing sees a 16550A without faults") {
  Port p;
  // autoconfig(): is there a port? IER must hold four bits and no more.
  p.Out(Reg::IER, 0x00);
  CHECK((p.In(Reg::IER) & 0x0F) == 0x00);
  p.Out(Reg::IER, 0x0F);
  CHECK((p.In(Reg::IER) & 0x0F) == 0x0F);
  p.Out(Reg::IER, 0x00);
  p.Out(Reg::MCR, 0x1A);
  CHECK((p.In(Reg::MSR) & 0xF0) == 0x90);
  p.Out(Reg::MCR, 0x00);
  p.Out(Reg::LCR, 0xBF);
  p.Out(Reg::FCR, 0x00);
  p.Out(Reg::LCR, 0x00);
  p.Out(Reg::FCR, 0x01);
  CHECK(p.In(Reg::IIR) >> 6 == 3);
  // autoconfig_16550a(): no EFR in either mode, no bank 2, no 64-byte FIFO, no UUE bit.
  for (unsigned lcr : {0x80u, 0xBFu}) {
    p.Out(Reg::LCR, lcr);
    CHECK(p.In(Reg::IIR) != 0x00);
  }
  p.Out(Reg::LCR, 0x00);
  p.Out(Reg::MCR, 0x10);
  p.Out(Reg::LCR, 0xE0);
  CHECK((p.In(Reg::IIR) & 0x10) == 0);
  p.Out(Reg::LCR, 0x00);
  p.Out(Reg::MCR, 0x00);
  p.Out(Reg::LCR, 0x80);
  p.Out(Reg::FCR, 0x21);
  CHECK(p.In(Reg::IIR) >> 5 == 6);
  p.Out(Reg::LCR, 0x00);
  p.Out(Reg::IER, 0x40);
  CHECK(p.In(Reg::IER) == 0x00);
  // serial8250_do_startup(): THRE is reasserted when it is enabled again.
  p.Out(Reg::IER, 0x02);
  CHECK((p.In(Reg::IIR) & 1) == 0);
  p.Out(Reg::IER, 0x00);
  p.Out(Reg::IER, 0x02);
  CHECK((p.In(Reg::IIR) & 1) == 0);
  CHECK(p.irq.rises == 0);  // OUT2 was off all the time
}

TEST_CASE("accesses of any size at any offset are answered byte by byte") {
  Port p;
  p.Out(Reg::SCR, 0x5A);
  CHECK(In(p.uart, 6, 2) == 0x5AB0);
  CHECK(In(p.uart, 7, 4) == 0xFFFFFF5A);
  CHECK(In(p.uart, 1000) == 0xFF);
  Out(p.uart, 0, 0x41, 1);
  Out(p.uart, 1000, 0x41, 8);
  CHECK(p.backend.output == "A");
}
