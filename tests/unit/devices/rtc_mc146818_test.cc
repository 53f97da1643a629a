#include "legacy-devices/rtc_mc146818.h"

#include <catch2/catch.hpp>
#include <random>

#include "../support/fakes.h"

using namespace fakes;
using namespace legacy;
using namespace std::chrono_literals;

namespace {

struct Board {
  Board() { time.wall_start = 1'709'164'799s; }  // 2024-02-28 23:59:59 UTC, a Wednesday

  FakeIrqLine irq;
  FakeTime time;
  CmosConfig config{.memory_below_4g = 3ull << 30, .memory_above_4g = 5ull << 30, .cpu_count = 4};
  std::unique_ptr<RtcMc146818> made;
  RtcMc146818& rtc() {
    if (!made) made = std::make_unique<RtcMc146818>(irq, time, time, config);
    return *made;
  }
  uint8_t Get(uint8_t index) {
    Out(rtc(), 0, index);
    return static_cast<uint8_t>(In(rtc(), 1));
  }
  void Put(uint8_t index, uint8_t value) {
    Out(rtc(), 0, index);
    Out(rtc(), 1, value);
  }
};

constexpr uint8_t kA = 0x0a, kB = 0x0b, kC = 0x0c, kD = 0x0d, kCentury = 0x32;

}  // namespace

TEST_CASE("the clock shows the wall time in BCD and turns over leap days") {  // [MC146818] table 3
  Board b;
  CHECK(b.Get(0) == 0x59);
  CHECK(b.Get(2) == 0x59);
  CHECK(b.Get(4) == 0x23);
  CHECK(b.Get(6) == 4);
  CHECK(b.Get(7) == 0x28);
  CHECK(b.Get(8) == 0x02);
  CHECK(b.Get(9) == 0x24);
  CHECK(b.Get(kCentury) == 0x20);
  b.time.Advance(1s);
  CHECK(b.Get(0) == 0);
  CHECK(b.Get(7) == 0x29);
  CHECK(b.Get(6) == 5);
}

TEST_CASE("binary and twelve-hour modes change the form, not the time") {
  Board b;
  b.Put(kB, 0x06);
  CHECK(b.Get(4) == 23);
  CHECK(b.Get(0) == 59);
  b.Put(kB, 0x00);
  CHECK(b.Get(4) == (0x11 | 0x80));
  b.time.Advance(1s);
  CHECK(b.Get(4) == 0x12);  // midnight is 12 in the morning
}

TEST_CASE("a guest sets the time with SET and it runs on from there") {  // [MC146818] Register B
  Board b;
  b.Put(kB, 0x82);
  b.Put(0, 0x30);
  b.Put(2, 0x15);
  b.Put(4, 0x08);
  b.Put(7, 0x31);
  b.Put(8, 0x12);
  b.Put(9, 0x99);
  b.Put(kCentury, 0x19);
  b.time.Advance(5s);
  CHECK(b.Get(0) == 0x30);  // stopped
  b.Put(kB, 0x02);
  b.time.Advance(31s);
  CHECK(b.Get(2) == 0x16);
  CHECK(b.Get(0) == 0x01);
  CHECK(b.Get(9) == 0x99);
  CHECK(b.Get(kCentury) == 0x19);
}

TEST_CASE("UIP is set for 244 microseconds before an update") {  // [MC146818] "UPDATE CYCLE"
  Board b;
  CHECK((b.Get(kA) & 0x80) == 0);
  b.time.Advance(1s - 200us);
  CHECK((b.Get(kA) & 0x80) == 0x80);
  b.time.Advance(200us);
  CHECK((b.Get(kA) & 0x80) == 0);
}

TEST_CASE("the periodic interrupt comes at its rate and waits for register C to be read") {
  Board b;
  b.Put(kA, 0x26);  // 1024 Hz
  b.Put(kB, 0x42);
  b.Get(kC);
  b.time.Advance(977us);
  CHECK(b.irq.high);
  b.time.Advance(10ms);
  CHECK(b.irq.rises == 1);
  CHECK(b.Get(kC) == 0xc0);
  CHECK_FALSE(b.irq.high);
  CHECK((b.Get(kC) & 0x80) == 0);
  b.time.Advance(1ms);
  CHECK(b.irq.rises == 2);
}

TEST_CASE("interrupts go on when the host's wall clock is set back") {
  Board b;
  b.Put(kA, 0x26);
  b.Put(kB, 0x52);
  b.time.Advance(1s);
  b.Get(kC);
  b.time.wall_start -= 1h;
  b.time.Advance(1ms);  // notices it
  b.Get(kC);
  b.time.Advance(1ms);
  CHECK((b.Get(kC) & 0xc0) == 0xc0);
  b.time.Advance(1s);
  CHECK((b.Get(kC) & 0x90) == 0x90);
}

TEST_CASE("the update interrupt comes once a second, and its flag without being enabled") {
  Board b;
  b.Get(kC);
  b.time.Advance(1s);
  CHECK((b.Get(kC) & 0x10) == 0x10);
  CHECK(b.irq.rises == 0);
  b.Put(kB, 0x12);
  for (int i = 0; i < 3; ++i) {
    b.time.Advance(1s);
    CHECK(b.irq.high);
    CHECK((b.Get(kC) & 0x90) == 0x90);
  }
}

TEST_CASE("the alarm fires at its time, with fields that do not care") {  // [MC146818] "ALARM"
  Board b;
  b.Put(1, 0x05);
  b.Put(3, 0xc0);
  b.Put(5, 0xff);
  b.Put(kB, 0x22);
  b.Get(kC);
  b.time.Advance(5s);
  CHECK_FALSE(b.irq.high);
  b.time.Advance(1s);
  CHECK(b.irq.high);
  CHECK((b.Get(kC) & 0xa0) == 0xa0);
  b.time.Advance(59s);
  CHECK_FALSE(b.irq.high);
  b.time.Advance(1s);
  CHECK(b.irq.high);
}

TEST_CASE("CMOS RAM tells firmware the memory and the processors") {
  Board b;
  CHECK(b.Get(0x15) + b.Get(0x16) * 256 == 640);
  CHECK(b.Get(0x17) + b.Get(0x18) * 256 == 63 * 1024);
  CHECK(b.Get(0x34) + b.Get(0x35) * 256 == (3 * 1024 - 16) * 16);
  CHECK(b.Get(0x5b) + b.Get(0x5c) * 256 + b.Get(0x5d) * 65536 == 5 * 1024 * 16);
  CHECK(b.Get(0x5f) == 3);
  CHECK(b.Get(kD) == 0x80);
  b.Put(0x40, 0x5a);
  CHECK(b.Get(0x40) == 0x5a);
  CHECK(b.Get(0xc0) == 0x5a);  // bit 7 of the index masks NMI and is no part of it
}

TEST_CASE("a reset of the RTC turns interrupts off and keeps the time") {
  Board b;
  b.Put(kB, 0x52);
  b.time.Advance(2s);
  CHECK(b.irq.high);
  b.rtc().Reset();
  CHECK_FALSE(b.irq.high);
  CHECK(b.Get(kB) == 0x02);
  CHECK(b.Get(0) == 0x01);
}

TEST_CASE("an RTC goes on from its saved state and refuses an impossible one") {
  Board b;
  b.Put(kB, 0x82);
  b.Put(9, 0x10);
  b.Put(kB, 0x12);
  b.time.Advance(1s);
  const RtcMc146818State saved = b.rtc().Save();
  Board other;
  other.time.Advance(1s);
  REQUIRE(other.rtc().Load(saved).has_value());
  CHECK(other.rtc().Save() == saved);
  CHECK(other.Get(9) == 0x10);
  CHECK(other.irq.high);
  RtcMc146818State bad = saved;
  bad.version = 9;
  CHECK_FALSE(other.rtc().Load(bad).has_value());
  bad = saved;
  bad.ram[kC] = 0x01;
  CHECK_FALSE(other.rtc().Load(bad).has_value());
  bad = saved;
  bad.offset_ns = INT64_MAX;
  CHECK_FALSE(other.rtc().Load(bad).has_value());
}

TEST_CASE("random writes to the RTC end in no state that it refuses itself") {
  Board b;
  std::mt19937 random(1);
  for (int i = 0; i < 20000; ++i) {
    b.Put(static_cast<uint8_t>(random()), static_cast<uint8_t>(random()));
    b.Get(static_cast<uint8_t>(random() % 16));
    b.time.Advance(std::chrono::nanoseconds(random() % 1'000'000));
    if (i % 500 == 0) CHECK(b.rtc().Load(b.rtc().Save()).has_value());
  }
}
