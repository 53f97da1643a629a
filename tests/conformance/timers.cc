// What tells the time: 8254, RTC, PM timer, local APIC timer, TSC, kvmclock. Rates are checked
// against the PM timer, widely: the host may be busy.
#include "lib/apic.h"
#include "lib/guest.h"

using namespace guest;

namespace {

constexpr unsigned kPitHz = 1193182;
volatile unsigned count = 0;

void Count(Frame&) {
  ++count;
  EndOfInterrupt();
}

void PowerManagementTimer() {
  Section("PM timer");  // [ACPI] 4.8.3.3
  EXPECT(PmTimerPort() != 0);
  const uint32_t first = PmTimer();
  const uint64_t tsc = Tsc();
  EXPECT(WaitFor([=] { return PmTimer() != first; }));
  Delay(2);
  EXPECT(Tsc() > tsc);
}

uint16_t ReadPit(unsigned channel) {
  Out8(0x43, static_cast<uint8_t>(channel << 6));  // latch
  const uint8_t low = In8(static_cast<uint16_t>(0x40 + channel));
  return static_cast<uint16_t>(low | In8(static_cast<uint16_t>(0x40 + channel)) << 8);
}

void IntervalTimer() {
  Section("8254");   // [8254]
  Out8(0x43, 0x34);  // channel 0, mode 2
  Out8(0x40, 0xff);
  Out8(0x40, 0xff);
  Delay(1);
  // Once more where a busy host let the counter, of 55 ms, come round meanwhile.
  uint16_t passed = 0;
  for (uint32_t took = ~0u; took > kPmTimerHz * 50 / 1000;) {
    const uint32_t begin = PmTimer();
    const uint16_t first = ReadPit(0);
    Delay(5);
    passed = static_cast<uint16_t>(first - ReadPit(0));
    took = (PmTimer() - begin) & 0xffffff;
  }
  EXPECT(passed >= kPitHz * 4 / 1000);

  // A hundred a second for a fifth of a second, through the IOAPIC.
  SetHandler(0x61, Count);
  EnableApic();
  Out8(0x43, 0x34);
  Out8(0x40, static_cast<uint8_t>(kPitHz / 100));
  Out8(0x40, static_cast<uint8_t>(kPitHz / 100 >> 8));
  SetIoapicPin(2, 0x61);
  count = 0;
  EnableInterrupts();
  Delay(200);
  DisableInterrupts();
  SetIoapicPin(2, kPinMasked);
  EXPECT(count >= 10);
  EXPECT(count <= 30);

  Section("8254, channel 2");
  Out8(0x61, 0);                        // gate off
  Out8(0x43, 0xb0);                     // channel 2, mode 0
  const unsigned ticks = kPitHz / 200;  // 5 ms
  Out8(0x42, static_cast<uint8_t>(ticks));
  Out8(0x42, static_cast<uint8_t>(ticks >> 8));
  Delay(10);
  if (!UnderTcg()) EXPECT_EQ(In8(0x61) & 0x20, 0);  // it waits for its gate
  const uint32_t start = PmTimer();
  Out8(0x61, 1);
  if (UnderTcg()) {  // which does not know this gate: the count begins when it is written
    Out8(0x42, static_cast<uint8_t>(ticks));
    Out8(0x42, static_cast<uint8_t>(ticks >> 8));
  }
  EXPECT(WaitFor([] { return (In8(0x61) & 0x20) != 0; }));
  const uint32_t elapsed = (PmTimer() - start) & 0xffffff;
  EXPECT(elapsed >= kPmTimerHz * 45 / 10000);
  Out8(0x61, 0);
  // The refresh toggle that old programs time by.
  const uint8_t toggle = In8(0x61) & 0x10;
  EXPECT(WaitFor([=] { return (In8(0x61) & 0x10) != toggle; }, 100));
}

uint8_t ReadRtc(uint8_t index) {
  Out8(0x70, index);
  return In8(0x71);
}
void WriteRtc(uint8_t index, uint8_t value) {
  Out8(0x70, index);
  Out8(0x71, value);
}

void RealTimeClock() {
  Section("RTC");                        // [MC146818]
  EXPECT_EQ(ReadRtc(0xd) & 0x80, 0x80);  // valid RAM and time
  EXPECT(WaitFor([] { return (ReadRtc(0xa) & 0x80) == 0; }));
  const uint8_t b = ReadRtc(0xb);
  const uint8_t seconds = ReadRtc(0), month = ReadRtc(8);
  if ((b & 4) == 0) {  // BCD
    EXPECT((seconds & 0xf) <= 9 && seconds <= 0x59);
    EXPECT(month >= 1 && month <= 0x12);
  }
  // The periodic flag at 1024 Hz, read and cleared in register C.
  WriteRtc(0xa, (ReadRtc(0xa) & 0x70) | 6);
  ReadRtc(0xc);
  if (!UnderTcg()) EXPECT(WaitFor([] { return (ReadRtc(0xc) & 0x40) != 0; }, 100));
  WriteRtc(0xb, b | 0x40);  // PIE: an interrupt, IRQ 8
  SetHandler(0x68, [](Frame&) {
    ++count;
    ReadRtc(0xc);
    EndOfInterrupt();
  });
  count = 0;
  SetIoapicPin(8, 0x68);
  ReadRtc(0xc);
  EnableInterrupts();
  EXPECT(WaitFor([] { return count >= 5; }));
  DisableInterrupts();
  SetIoapicPin(8, kPinMasked);
  WriteRtc(0xb, b);
  // The clock moves on.
  EXPECT(WaitFor([=] { return ReadRtc(0) != seconds; }, 2500));
  // RAM holds what it is given.
  const uint8_t old = ReadRtc(0x50);
  WriteRtc(0x50, static_cast<uint8_t>(~old));
  EXPECT_EQ(ReadRtc(0x50), static_cast<uint8_t>(~old));
  WriteRtc(0x50, old);
}

volatile uint32_t& Hpet(uint32_t offset) {
  return *reinterpret_cast<volatile uint32_t*>(0xfed00000ull + offset);
}

void HighPrecisionTimers() {
  Section("HPET");                  // [HPET] 2.3
  const uint64_t period = Hpet(4);  // femtoseconds
  if (period == 0 || period > 0x05f5e100) return Skip("HPET");
  const uint32_t per_ms = static_cast<uint32_t>(1'000'000'000'000 / period);
  Hpet(0x10) = 0;
  const uint32_t stopped = Hpet(0xf0);
  Delay(1);
  EXPECT_EQ(Hpet(0xf0), stopped);
  Hpet(0x10) = 1;
  Delay(10);
  const uint32_t ran = Hpet(0xf0) - stopped;
  EXPECT(ran >= per_ms * 9);

  // One shot on the first pin that timer 0 can be routed to.
  unsigned pin = 0;
  while (pin < 24 && (Hpet(0x104) >> pin & 1) == 0) ++pin;
  EXPECT(pin < 24);
  EnableApic();
  SetHandler(0x71, Count);
  SetIoapicPin(pin, 0x71);
  count = 0;
  Hpet(0x100) = pin << 9 | 1 << 8 | 1 << 2;  // edge, 32 bits, enabled
  Hpet(0x108) = Hpet(0xf0) + 2 * per_ms;
  EnableInterrupts();
  EXPECT(WaitFor([] { return count >= 1; }));
  Delay(10);
  EXPECT_EQ(count, 1);

  // Periodic, every 2 ms: comparator, then period.
  count = 0;
  Hpet(0x100) = pin << 9 | 1 << 8 | 1 << 6 | 1 << 3 | 1 << 2;
  Hpet(0x108) = Hpet(0xf0) + 2 * per_ms;
  Hpet(0x108) = 2 * per_ms;
  EXPECT(WaitFor([] { return count >= 10; }));
  Hpet(0x100) = 0;
  SetIoapicPin(pin, kPinMasked);
  DisableInterrupts();
  Hpet(0x10) = 0;
}

void ApicTimer() {
  Section("APIC timer");  // [SDM 3A] 10.5.4
  EnableApic();
  SetHandler(0x70, Count);
  WriteApic(Apic::TIMER_DIVIDE, 3);  // by 16
  WriteApic(Apic::LVT_TIMER, 0x10070);
  WriteApic(Apic::TIMER_INITIAL, 0xffffffff);
  const uint32_t start = ReadApic(Apic::TIMER_CURRENT);
  Delay(20);
  const uint32_t per_20ms = start - ReadApic(Apic::TIMER_CURRENT);
  EXPECT(per_20ms > 1000);
  WriteApic(Apic::TIMER_INITIAL, 0);
  EXPECT_EQ(ReadApic(Apic::TIMER_CURRENT), 0);

  count = 0;
  WriteApic(Apic::LVT_TIMER, 0x70);
  WriteApic(Apic::TIMER_INITIAL, per_20ms / 4);
  WaitForInterrupt();
  EXPECT_EQ(count, 1);
  EXPECT_EQ(ReadApic(Apic::TIMER_CURRENT), 0);
  EnableInterrupts();
  Delay(10);
  DisableInterrupts();
  EXPECT_EQ(count, 1);  // one shot

  WriteApic(Apic::LVT_TIMER, 0x20070);  // periodic
  count = 0;
  WriteApic(Apic::TIMER_INITIAL, per_20ms / 4);
  EnableInterrupts();
  EXPECT(WaitFor([] { return count >= 5; }));
  WriteApic(Apic::LVT_TIMER, 0x30070 | 0x10000);  // masked
  Delay(1);
  count = 0;
  Delay(15);
  DisableInterrupts();
  EXPECT_EQ(count, 0);
  WriteApic(Apic::TIMER_INITIAL, 0);
  WriteApic(Apic::LVT_TIMER, 0x10000);
}

void TscDeadline() {
  Section("TSC deadline");  // [SDM 3A] 10.5.4.1
  if ((Cpuid(1).ecx & (1u << 24)) == 0) return Skip("TSC-deadline timer");
  const uint64_t t0 = Tsc();
  Delay(10);
  const uint64_t per_10ms = Tsc() - t0;
  WriteApic(Apic::LVT_TIMER, 0x40070);
  asm volatile("mfence" : : : "memory");
  EXPECT_EQ(ReadMsr(0x6e0), 0);
  count = 0;
  const uint64_t deadline = Tsc() + per_10ms / 2;
  WriteMsr(0x6e0, deadline);
  EXPECT_EQ(ReadMsr(0x6e0), deadline);
  WaitForInterrupt();
  EXPECT_EQ(count, 1);
  EXPECT(Tsc() >= deadline);
  EXPECT_EQ(ReadMsr(0x6e0), 0);  // disarmed
  WriteMsr(0x6e0, Tsc() - 1);    // the past: at once
  EnableInterrupts();
  EXPECT(WaitFor([] { return count == 2; }));
  WriteMsr(0x6e0, Tsc() + per_10ms / 2);
  WriteMsr(0x6e0, 0);
  Delay(10);
  DisableInterrupts();
  EXPECT_EQ(count, 2);
  WriteApic(Apic::TIMER_INITIAL, 1000);  // ignored in this mode
  EXPECT_EQ(ReadApic(Apic::TIMER_CURRENT), 0);
  WriteApic(Apic::LVT_TIMER, 0x10000);
}

USER_CODE(R"(
    .global user_rdtsc
user_rdtsc:
    rdtsc
    int $0x80
)");
extern "C" const char user_rdtsc[];

void TimeStampCounter() {
  Section("TSC");
  uint64_t last = Tsc();
  bool monotonic = true;
  for (int i = 0; i < 1000; ++i) {
    const uint64_t now = Tsc();
    monotonic &= now >= last;
    last = now;
  }
  EXPECT(monotonic);
  EXPECT_TRAP(RunUser(user_rdtsc), 0x80, 0);
  WriteCr4(ReadCr4() | 4);  // TSD
  EXPECT_TRAP(RunUser(user_rdtsc), kGP, 0);
  EXPECT_NO_TRAP(Try([] { Tsc(); }));
  WriteCr4(ReadCr4() & ~4ull);
  if (UnderTcg()) return Skip("writing the TSC (QEMU TCG does nothing)");
  const uint64_t far = Tsc() + (1ull << 40);
  WriteMsr(0x10, far);
  EXPECT(Tsc() >= far);
}

struct PvclockTime {
  uint32_t version, pad0;
  uint64_t tsc_timestamp, system_time;
  uint32_t mul;
  int8_t shift;
  uint8_t flags, pad[2];
};

uint64_t KvmClock(volatile PvclockTime& page) {
  for (;;) {
    const uint32_t version = page.version;
    const uint64_t delta = Tsc() - page.tsc_timestamp;
    const int shift = page.shift;
    const uint64_t shifted = shift >= 0 ? delta << shift : delta >> -shift;
    const uint64_t time =
        page.system_time + static_cast<uint64_t>((unsigned __int128)shifted * page.mul >> 32);
    if (version % 2 == 0 && version == page.version) return time;
  }
}

void ParavirtualClock() {
  Section("kvmclock");  // [KVM API] x86/msr.rst
  const CpuidResult leaf = Cpuid(0x40000000);
  if (leaf.ebx != 0x4b4d564b || (Cpuid(0x40000001).eax & 8) == 0) return Skip("kvmclock");
  alignas(64) static volatile PvclockTime page;
  WriteMsr(0x4b564d01, reinterpret_cast<uint64_t>(&page) | 1);
  EXPECT(WaitFor([] { return page.version != 0 && page.version % 2 == 0; }));
  EXPECT(page.mul != 0);
  const uint64_t first = KvmClock(page);
  Delay(20);
  const uint64_t passed = KvmClock(page) - first;
  EXPECT(passed > 15'000'000);
  EXPECT(passed < 1'000'000'000);
  WriteMsr(0x4b564d01, 0);
}

}  // namespace

void GuestMain() {
  PowerManagementTimer();
  IntervalTimer();
  RealTimeClock();
  HighPrecisionTimers();
  ApicTimer();
  TscDeadline();
  ParavirtualClock();
  TimeStampCounter();
}
