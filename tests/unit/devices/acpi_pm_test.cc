#include "legacy-devices/acpi_pm.h"

#include <catch2/catch.hpp>

#include "../support/fakes.h"

using namespace fakes;
using namespace legacy;
using namespace std::chrono_literals;

namespace {

struct Board {
  FakeIrqLine sci;
  FakeTime time;
  int power_offs = 0;
  AcpiPm pm{sci, time, time, [this] { ++power_offs; }};

  uint64_t In(uint64_t offset, size_t size) { return fakes::In(pm.pm_block(), offset, size); }
  void Out(uint64_t offset, uint64_t value, size_t size) {
    fakes::Out(pm.pm_block(), offset, value, size);
  }
  void EnableAcpi() { fakes::Out(pm.apm_ports(), 0, 0xF1); }
};

constexpr uint64_t kSts = 0, kEn = 2, kCnt = 4, kTmr = 8;

}  // namespace

TEST_CASE("ACPI is off after reset and SMI_CMD switches it on and off") {  // [ACPI] 4.8.2.5
  Board b;
  CHECK(b.In(kCnt, 2) == 0);
  b.EnableAcpi();
  CHECK(b.In(kCnt, 2) == 1);
  b.Out(kCnt, 0, 2);  // SCI_EN isn't the guest's to write
  CHECK(b.In(kCnt, 2) == 1);
  Out(b.pm.apm_ports(), 0, 0xF0);
  CHECK(b.In(kCnt, 2) == 0);
}

TEST_CASE("the APM ports keep what is written") {  // [PIIX4] APMC, APMS
  Board b;
  Out(b.pm.apm_ports(), 0, 0x5AA5, 2);
  CHECK(In(b.pm.apm_ports(), 0, 2) == 0x5AA5);
  CHECK(In(b.pm.apm_ports(), 2) == 0xFF);
}

TEST_CASE("the power button raises the SCI until its status is cleared") {  // [ACPI] 4.8.3.1.1
  Board b;
  b.EnableAcpi();
  b.Out(kEn, 0x0100, 2);
  CHECK_FALSE(b.sci.high);
  b.pm.PressPowerButton();
  CHECK(b.sci.high);
  CHECK(b.In(kSts, 2) == 0x0100);
  b.Out(kSts, 0x0001, 2);  // a 1 clears its bit and no other
  CHECK(b.sci.high);
  b.Out(kSts, 0x0100, 2);
  CHECK(b.In(kSts, 2) == 0);
  CHECK_FALSE(b.sci.high);
}

TEST_CASE("a power button pressed before ACPI is on stays pending") {
  Board b;
  b.pm.PressPowerButton();
  b.Out(kEn, 0x0100, 2);
  CHECK_FALSE(b.sci.high);
  b.EnableAcpi();
  CHECK(b.sci.high);
}

TEST_CASE("the enable register keeps only the events there are") {  // [ACPI] 4.8.3.1.2
  Board b;
  b.Out(kEn, 0xFFFF, 2);
  CHECK(b.In(kEn, 2) == 0x0721);
  b.Out(kEn + 1, 0x01, 1);  // by bytes
  CHECK(b.In(kEn, 2) == 0x0121);
  CHECK(b.In(kSts, 4) == 0x0121'0000);
}

TEST_CASE("SLP_EN with the soft-off type powers the machine off") {  // [PIIX4] PMCNTRL
  Board b;
  b.EnableAcpi();
  SECTION("in one write") {
    b.Out(kCnt, 0x2001, 2);
  }
  SECTION("by the high byte alone") {
    b.Out(kCnt + 1, 0x20, 1);
  }
  SECTION("type first, then SLP_EN, as ACPICA does") {
    b.Out(kCnt, 0x0001, 2);
    CHECK(b.power_offs == 0);
    b.Out(kCnt, 0x2001, 2);
  }
  CHECK(b.power_offs == 1);
  CHECK((b.In(kCnt, 2) & 0x2000) == 0);  // write-only
}

TEST_CASE("a sleep state that isn't offered wakes at once") {  // [ACPI] 4.8.3.2.1
  Board b;
  b.Out(kCnt, 0x2400, 2);
  CHECK(b.power_offs == 0);
  CHECK(b.In(kSts, 2) == 0x8000);
  CHECK(b.In(kCnt, 2) == 0x0400);
}

TEST_CASE("the PM timer counts 3.579545 MHz in 32 bits") {  // [ACPI] 4.8.3.3
  Board b;
  CHECK(b.In(kTmr, 4) == 0);
  b.time.Advance(1s);
  CHECK(b.In(kTmr, 4) == 3'579'545);
  CHECK(b.In(kTmr, 2) == (3'579'545 & 0xFFFF));
  CHECK(b.In(kTmr + 2, 2) == 3'579'545 >> 16);
  b.time.Advance(1500s);
  CHECK(b.In(kTmr, 4) == (uint64_t{1501} * 3'579'545 & 0xFFFFFFFF));
  b.Out(kTmr, 0, 4);  // read-only
  CHECK(b.In(kTmr, 4) != 0);
}

TEST_CASE("TMR_STS is set when the top bit of the timer changes") {  // [ACPI] 4.8.3.3
  Board b;
  b.time.Advance(599s);
  CHECK(b.In(kSts, 2) == 0);
  b.time.Advance(1s);  // 2^31 ticks are 599.93 s
  CHECK(b.In(kSts, 2) == 1);
  b.Out(kSts, 1, 2);
  CHECK(b.In(kSts, 2) == 0);
  b.time.Advance(600s);
  CHECK(b.In(kSts, 2) == 1);
  CHECK(b.time.armed() == 0);
}

TEST_CASE("with TMR_EN the overflow raises the SCI without being asked") {  // [ACPI] 4.8.3.1.2
  Board b;
  b.EnableAcpi();
  b.Out(kEn, 1, 2);
  b.time.Advance(599s);
  CHECK_FALSE(b.sci.high);
  b.time.Advance(1s);
  CHECK(b.sci.high);
  b.Out(kSts, 1, 2);
  CHECK_FALSE(b.sci.high);
  b.time.Advance(600s);
  CHECK(b.sci.high);
}

TEST_CASE("a general-purpose event raises the SCI while it is enabled") {  // [ACPI] 4.8.4.1
  Board b;
  b.EnableAcpi();
  vmm::Device& gpe = b.pm.gpe0_block();
  b.pm.RaiseGpe(9);
  CHECK_FALSE(b.sci.high);
  Out(gpe, 2, 0x0200, 2);
  CHECK(b.sci.high);
  CHECK(In(gpe, 0, 4) == 0x0200'0200);
  Out(gpe, 1, 0x02, 1);
  CHECK_FALSE(b.sci.high);
  CHECK(In(gpe, 0, 4) == 0x0200'0000);
}

TEST_CASE("ports of the PM block without a register read as zero") {
  Board b;
  CHECK(b.In(0x14, 1) == 0);
  CHECK(b.In(6, 2) == 0);
  CHECK(b.In(1000, 8) == 0);
  b.Out(0x10, ~uint64_t{0}, 8);
  CHECK(b.power_offs == 0);
}

TEST_CASE("reset switches ACPI off and lets the timer run on") {
  Board b;
  b.EnableAcpi();
  b.Out(kEn, 0x0100, 2);
  b.pm.PressPowerButton();
  b.time.Advance(1s);
  b.pm.Reset();
  CHECK_FALSE(b.sci.high);
  CHECK(b.In(kSts, 4) == 0);
  CHECK(b.In(kCnt, 2) == 0);
  CHECK(b.In(kTmr, 4) == 3'579'545);
}

TEST_CASE("a saved PM block continues where it was, its timer on another clock too") {
  Board a;
  a.EnableAcpi();
  a.Out(kEn, 0x0101, 2);
  a.pm.RaiseGpe(3);
  Out(a.pm.apm_ports(), 1, 0x42);
  a.time.Advance(599s);
  a.pm.PressPowerButton();
  const AcpiPmState saved = a.pm.Save();

  Board b;
  b.time.Advance(7s);
  REQUIRE(b.pm.Load(saved));
  CHECK(b.pm.Save() == saved);
  CHECK(b.sci.high);
  CHECK(b.In(kTmr, 4) == a.In(kTmr, 4));
  b.Out(kSts, 0x0100, 2);
  CHECK_FALSE(b.sci.high);
  b.time.Advance(1s);  // the overflow comes when it would have come
  CHECK(b.sci.high);
}

TEST_CASE("a saved state that no PIIX4 could be in is refused and changes nothing") {
  Board b;
  b.EnableAcpi();
  const AcpiPmState before = b.pm.Save();
  AcpiPmState bad = before;
  SECTION("version") {
    bad.version = 0;
  }
  SECTION("PM1_STS") {
    bad.PM1_STS = vmm::BitRegister<acpi_pm::PM1_STS>(0x0002);
  }
  SECTION("PM1_EN") {
    bad.PM1_EN = vmm::BitRegister<acpi_pm::PM1_EN>(0x8000);
  }
  SECTION("PM1_CNT") {
    bad.PM1_CNT = vmm::BitRegister<acpi_pm::PM1_CNT>(0x2000);
  }
  SECTION("overflow in the past") {
    bad.timer_ticks = bad.next_change;
  }
  SECTION("overflow too far away") {
    bad.next_change *= 2;
  }
  SECTION("overflow at an odd place") {
    bad.next_change -= 1;
  }
  SECTION("a timer older than the universe") {
    bad.next_change = uint64_t{3} << 62;
    bad.timer_ticks = bad.next_change - 1;
  }
  CHECK_FALSE(b.pm.Load(bad));
  CHECK(b.pm.Save() == before);
}

TEST_CASE("random accesses leave the PM block in a state that it would load itself") {
  Board b;
  Random random(2);
  for (int i = 0; i < 20000; ++i) {
    const size_t size = size_t{1} << random.Below(4);
    vmm::Device* const parts[] = {&b.pm.pm_block(), &b.pm.gpe0_block(), &b.pm.apm_ports()};
    vmm::Device& part = *parts[random.Below(3)];
    const uint64_t offset = random.Below(20);
    switch (random.Below(4)) {
      case 0:
        In(part, offset, size);
        break;
      case 1:
        Out(part, offset, random.Below(4) == 0 ? 0xF1 : random.Next(), size);
        break;
      case 2:
        b.time.Advance(std::chrono::milliseconds(random.Below(100'000)));
        break;
      case 3:
        random.Below(2) ? b.pm.PressPowerButton() : b.pm.RaiseGpe(unsigned(random.Below(16)));
        break;
    }
    if (i % 100 == 0) REQUIRE(b.pm.Load(b.pm.Save()));
  }
}
