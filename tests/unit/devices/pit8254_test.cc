#include "legacy-devices/pit8254.h"

#include <catch2/catch.hpp>
#include <vector>

#include "../support/fakes.h"

using namespace fakes;
using namespace legacy;
using namespace legacy::pit;
using namespace std::chrono_literals;
using vmm::Nanoseconds;

namespace {

// The time of a tick of the chip's clock, and just not the tick before.
constexpr Nanoseconds At(int64_t ticks) {
  return Nanoseconds((ticks * 1'000'000'000 + static_cast<int64_t>(kHz) - 1) /
                     static_cast<int64_t>(kHz));
}

struct Pit {
  FakeIrqLine irq;
  FakeTime time;
  Pit8254 chip{irq, time, time};
  int64_t tick = 0;

  void Control(unsigned value) { Out(chip.counters(), 3, value); }
  void Write(unsigned counter, unsigned value) { Out(chip.counters(), counter, value); }
  unsigned Read(unsigned counter) { return static_cast<unsigned>(In(chip.counters(), counter)); }
  unsigned Read16(unsigned counter) {
    const unsigned low = Read(counter);
    return low | Read(counter) << 8;
  }
  // Control word, then both bytes of the count.
  void Program(unsigned counter, unsigned mode, unsigned count, bool bcd = false) {
    Control(counter << 6 | 0x30 | mode << 1 | (bcd ? 1 : 0));
    Write(counter, count & 0xFF);
    Write(counter, count >> 8);
  }
  void Tick(int64_t ticks) {
    tick += ticks;
    time.Advance(At(tick) - time.Now());
  }
  unsigned Status(unsigned counter) {
    Control(0xE0 | 2u << counter);
    return Read(counter);
  }
  bool Out2() { return In(chip.port_b(), 0) & 0x20; }
  void Gate2(bool on) { fakes::Out(chip.port_b(), 0, on ? 1 : 0); }
  // OUT of counter 2 over the next ticks.
  std::string Wave(int ticks) {
    std::string wave;
    for (int i = 0; i < ticks; ++i) {
      Tick(1);
      wave += Out2() ? '1' : '0';
    }
    return wave;
  }
};

}  // namespace

TEST_CASE("mode 0 raises OUT on terminal count and counts on") {  // [8254] "Mode 0"
  Pit p;
  p.Gate2(true);
  p.Program(2, 0, 4);
  CHECK_FALSE(p.Out2());
  CHECK(p.Wave(7) == "0000111");  // the count is loaded by the first tick
  CHECK(p.Read16(2) == 0xFFFE);
  p.Program(2, 0, 3);
  CHECK(p.Wave(5) == "00011");
  // The first byte of a new count stops the counter, the second starts it.
  p.Write(2, 2);
  CHECK(p.Wave(5) == "00000");
  p.Write(2, 0);
  CHECK(p.Wave(4) == "0011");
}

TEST_CASE("the gate holds mode 0 up") {
  Pit p;
  p.Gate2(true);
  p.Program(2, 0, 5);
  CHECK(p.Wave(3) == "000");
  CHECK(p.Read16(2) == 3);
  p.Gate2(false);
  CHECK(p.Wave(20) == "00000000000000000000");
  CHECK(p.Read16(2) == 3);
  p.Gate2(true);
  CHECK(p.Wave(4) == "0011");
}

TEST_CASE("mode 1 is a one-shot that the gate triggers again") {  // [8254] "Mode 1"
  Pit p;
  p.Program(2, 1, 3);
  CHECK(p.Wave(3) == "111");
  p.Gate2(true);
  CHECK(p.Wave(6) == "000111");
  p.Gate2(false);
  p.Gate2(true);
  CHECK(p.Wave(2) == "00");
  p.Gate2(false);
  p.Gate2(true);
  CHECK(p.Wave(5) == "00011");
}

TEST_CASE("mode 2 is low for the last tick of each period") {  // [8254] "Mode 2"
  Pit p;
  p.Gate2(true);
  p.Program(2, 2, 3);
  CHECK(p.Wave(10) == "1101101101");
  p.Gate2(false);  // high at once, and the counter starts anew with the gate
  CHECK(p.Wave(3) == "111");
  p.Gate2(true);
  CHECK(p.Wave(6) == "110110");
}

TEST_CASE("a new count of mode 2 waits for the end of the period") {
  Pit p;
  p.Gate2(true);
  p.Program(2, 2, 5);
  CHECK(p.Wave(2) == "11");
  p.Write(2, 2);
  p.Write(2, 0);
  CHECK((p.Status(2) & 0x40) != 0);  // null count
  CHECK(p.Wave(8) == "11010101");
  CHECK((p.Status(2) & 0x40) == 0);
}

TEST_CASE("mode 3 is a square wave, an odd count high for one tick longer") {  // [8254] "Mode 3"
  Pit p;
  p.Gate2(true);
  p.Program(2, 3, 4);
  CHECK(p.Wave(8) == "11001100");
  p.Program(2, 3, 5);
  CHECK(p.Wave(10) == "1110011100");
  std::vector<unsigned> counts;
  p.Program(2, 3, 5);
  for (int i = 0; i < 5; ++i) {
    p.Tick(1);
    counts.push_back(p.Read16(2));
  }
  CHECK(counts == std::vector<unsigned>{4, 2, 0, 4, 2});
}

TEST_CASE("a new count of mode 3 waits for the end of the half period") {
  Pit p;
  p.Gate2(true);
  p.Program(2, 3, 8);
  CHECK(p.Wave(2) == "11");
  p.Write(2, 4);
  p.Write(2, 0);
  CHECK(p.Wave(8) == "11001100");
}

TEST_CASE("mode 4 strobes once, mode 5 once for each trigger") {  // [8254] "Mode 4", "Mode 5"
  Pit p;
  p.Gate2(true);
  p.Program(2, 4, 3);
  CHECK(p.Wave(7) == "1110111");
  p.Gate2(false);
  p.Program(2, 5, 2);
  CHECK(p.Wave(4) == "1111");
  p.Gate2(true);
  CHECK(p.Wave(5) == "11011");
  p.Gate2(false);
  p.Gate2(true);
  CHECK(p.Wave(4) == "1101");
}

TEST_CASE("BCD counts in decimals") {
  Pit p;
  p.Gate2(true);
  p.Program(2, 0, 0x1000, true);
  p.Tick(2);
  CHECK(p.Read16(2) == 0x0999);
  p.Tick(1000);
  CHECK(p.Read16(2) == 0x9999);
  p.Program(2, 2, 0, true);  // 10000
  p.Tick(1);
  CHECK(p.Read16(2) == 0x0000);
  p.Tick(1);
  CHECK(p.Read16(2) == 0x9999);
}

TEST_CASE("one byte of a count may be read and written alone") {  // [8254] "Control word format"
  Pit p;
  p.Gate2(true);
  p.Control(0x90);  // low byte, mode 0
  p.Write(2, 0x12);
  p.Tick(1);
  CHECK(p.Read(2) == 0x12);
  CHECK(p.Read(2) == 0x12);
  p.Control(0xA0);  // high byte
  p.Write(2, 0x12);
  p.Tick(2);
  CHECK(p.Read(2) == 0x11);
}

TEST_CASE("a latched count stays until it is read") {  // [8254] "Counter latch command"
  Pit p;
  p.Gate2(true);
  p.Program(2, 0, 0x1000);
  p.Tick(1);
  p.Control(0x80);
  p.Tick(0x10);
  p.Control(0x80);  // ignored
  CHECK(p.Read(2) == 0x00);
  p.Tick(5);
  CHECK(p.Read(2) == 0x10);
  CHECK(p.Read16(2) == 0x1000 - 0x15);
}

TEST_CASE("read-back latches counts and statuses of several counters") {
  Pit p;
  p.Gate2(true);
  p.Program(0, 2, 1000);
  p.Program(2, 3, 2000);
  p.Tick(11);
  p.Control(0xC0 | 0x0A);  // both, counters 0 and 2
  p.Tick(100);
  CHECK(p.Read(0) == 0xB4);  // OUT, 16 bits, mode 2
  CHECK(p.Read16(0) == 990);
  CHECK(p.Read(2) == 0xB6);
  CHECK(p.Read16(2) == 1980);
  p.Control(0x30);
  CHECK(p.Status(0) == 0x70);  // OUT low, null count
}

TEST_CASE("counter 0 interrupts at each period, in time") {
  Pit p;
  p.Program(0, 2, 11932);  // 100 Hz, as Linux sets it
  p.irq.rises = 0;
  p.Tick(1 + 11932 - 1);
  CHECK(p.irq.rises == 0);
  p.Tick(1);
  CHECK(p.irq.rises == 1);
  p.time.Advance(1s);
  CHECK(p.irq.rises == 100);
  p.Program(0, 3, 0);  // 18.2 Hz
  p.irq.rises = 0;
  p.time.Advance(1s);
  CHECK(p.irq.rises == 18);
}

TEST_CASE("counter 0 as Linux's one-shot clock event interrupts once") {
  Pit p;
  p.Control(0x38);
  p.irq.rises = 0;
  p.Write(0, 100);
  p.Write(0, 0);
  p.time.Advance(1s);
  CHECK(p.irq.rises == 1);
  CHECK(p.time.armed() == 0);
  p.Write(0, 50);
  p.Write(0, 0);
  p.Tick(60);
  p.time.Advance(1s);
  CHECK(p.irq.rises == 2);
  // Shut down: mode 0 with the longest count, which ends once more.
  p.Program(0, 0, 0);
  CHECK_FALSE(p.irq.high);
  p.time.Advance(10s);
  CHECK(p.irq.rises == 3);
}

TEST_CASE("interrupts that a busy host missed follow at twice the rate") {
  Pit p;
  p.Program(0, 2, 11932);
  p.irq.rises = 0;
  p.time.Stall(200ms);
  CHECK(p.irq.rises == 1);
  p.time.Advance(100ms);  // 10 that fall due now, and 10 of the 19 owed
  CHECK(p.irq.rises >= 20);
  CHECK(p.irq.rises <= 22);
  p.time.Advance(700ms);
  CHECK(p.irq.rises == 99);
  // More than a second's worth is not made up for.
  p.time.Stall(10s);
  p.irq.rises = 0;
  p.time.Advance(3s);
  CHECK(p.irq.rises == 300 + 98);
}

TEST_CASE("the fastest rate costs the host no more than one callback in 50 us") {
  Pit p;
  p.Program(0, 2, 2);
  p.irq.rises = 0;
  p.time.Advance(10ms);
  CHECK(p.irq.rises >= 190);
  CHECK(p.irq.rises <= 201);
}

TEST_CASE("port B keeps four bits and shows OUT of counter 2 and the refresh toggle") {
  Pit p;
  fakes::Out(p.chip.port_b(), 0, 0xFF);
  CHECK((In(p.chip.port_b(), 0) & 0xCF) == 0x0F);
  CHECK(p.chip.SpeakerOn());
  fakes::Out(p.chip.port_b(), 0, 0x01);
  CHECK_FALSE(p.chip.SpeakerOn());
  int toggles = 0;
  unsigned last = 0;
  for (int i = 0; i < 1000; ++i) {
    p.time.Advance(1us);
    const unsigned now = In(p.chip.port_b(), 0) & 0x10;
    toggles += now != last;
    last = now;
  }
  CHECK(toggles >= 65);  // [PC-AT]: every 15.1 us
  CHECK(toggles <= 67);
}

TEST_CASE("Linux's pit_calibrate_tsc() sees 50 ms go by") {
  Pit p;
  fakes::Out(p.chip.port_b(), 0, (In(p.chip.port_b(), 0) & ~2u) | 1);
  p.Control(0xB0);
  const unsigned latch = kHz / 20;
  p.Write(2, latch & 0xFF);
  p.Write(2, latch >> 8);
  const Nanoseconds start = p.time.Now();
  int polls = 0;
  while (!(In(p.chip.port_b(), 0) & 0x20)) {
    p.time.Advance(10us);
    ++polls;
  }
  CHECK(polls > 1000);
  const auto took = p.time.Now() - start;
  CHECK(took >= 49'990us);
  CHECK(took <= 50'020us);
}

TEST_CASE("Linux's quick_pit_calibrate() sees the high byte count down") {
  Pit p;
  p.Gate2(true);
  p.Control(0xB0);
  p.Write(2, 0xFF);
  p.Write(2, 0xFF);
  p.Tick(2);
  for (unsigned expected = 0xFF; expected > 0xF0; --expected) {
    p.Read(2);
    CHECK(p.Read(2) == expected);
    p.Tick(256);
  }
}

TEST_CASE("reset stops the counters") {
  Pit p;
  p.Program(0, 2, 1000);
  p.time.Advance(10ms);
  p.chip.Reset();
  CHECK(p.time.armed() == 0);
  CHECK_FALSE(p.irq.high);
}

TEST_CASE("a saved timer goes on where it was") {
  Pit a, b;
  a.time.Advance(123us);
  a.Gate2(true);
  a.Program(0, 2, 11932);
  a.Program(2, 3, 1000);
  a.time.Advance(5ms);
  a.Write(2, 0x34);
  a.Write(2, 0x02);
  a.Control(0x80);
  a.Write(0, 7);  // the first of two bytes
  a.time.Stall(30ms);
  const Pit8254State state = a.chip.Save();
  b.time.Advance(77ms);
  REQUIRE(b.chip.Load(state));
  CHECK(b.chip.Save().counters == state.counters);
  CHECK(b.chip.Save().ticks == state.ticks);
  a.irq.rises = b.irq.rises = 0;
  for (int i = 0; i < 100; ++i) {
    a.time.Advance(1ms);
    b.time.Advance(1ms);
    REQUIRE(a.Out2() == b.Out2());
  }
  CHECK(std::abs(a.irq.rises - b.irq.rises) <= 1);
  CHECK(a.Read16(2) == b.Read16(2));  // latched
}

TEST_CASE("the state of no 8254 is refused") {
  Pit p;
  p.Gate2(true);
  p.Program(0, 2, 100);
  p.Program(2, 3, 1000);
  p.time.Advance(1ms);
  const Pit8254State good = p.chip.Save();
  REQUIRE(p.chip.Load(good));
  const auto refused = [&](auto change) {
    Pit8254State bad = good;
    change(bad);
    return !p.chip.Load(bad).has_value();
  };
  CHECK(refused([](auto& s) { s.version = 0; }));
  CHECK(refused([](auto& s) { s.ticks = -1; }));
  CHECK(refused([](auto& s) { s.owed = -1; }));
  CHECK(refused([](auto& s) { s.port_b = vmm::BitRegister<PortB>(0x20); }));
  CHECK(refused([](auto& s) { s.counters[0].control = 0xFF; }));
  CHECK(refused([](auto& s) { s.counters[0].control = 0x04; }));
  CHECK(refused([](auto& s) { s.counters[0].count = 0; }));
  CHECK(refused([](auto& s) { s.counters[0].count = 0x80000000; }));
  CHECK(refused([](auto& s) { s.counters[0].start = INT64_MIN; }));
  CHECK(refused([](auto& s) { s.counters[0].start = INT64_MAX; }));
  CHECK(refused([](auto& s) { s.counters[1].at += 1; }));
  CHECK(refused([](auto& s) { s.counters[2].gate = false; }));
  CHECK(refused([](auto& s) { s.counters[2].load_pending = true; }));
  CHECK(refused([](auto& s) {
    s.counters[2].next_loaded = true;
    s.counters[2].next_at = INT64_MAX;
  }));
}

TEST_CASE("whatever a guest does to the timer, its state can be saved and loaded") {
  Pit p;
  Random random(1);
  for (int i = 0; i < 50'000; ++i) {
    const size_t size = size_t{1} << random.Below(3);
    switch (random.Below(8)) {
      case 0:
        In(p.chip.counters(), random.Below(4), size);
        break;
      case 1:
        In(p.chip.port_b(), 0, size);
        break;
      case 2:
        fakes::Out(p.chip.port_b(), 0, random.Next(), size);
        break;
      case 3:
        fakes::Out(p.chip.counters(), 3, random.Next(), 1);
        break;
      case 4:
        p.time.Advance(Nanoseconds(random.Below(1u << random.Below(20))));
        break;
      case 5:
        p.time.Stall(Nanoseconds(random.Below(1u << random.Below(24))));
        break;
      default:
        fakes::Out(p.chip.counters(), random.Below(4), random.Next(), size);
        break;
    }
    const Pit8254State state = p.chip.Save();
    REQUIRE(p.chip.Load(state));
  }
}
