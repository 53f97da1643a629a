// The counters of the 8254, mode by mode, and the interrupts and the calendar of the RTC. What is
// checked holds at any speed. [8254], [MC146818]
#include "lib/apic.h"
#include "lib/guest.h"

using namespace guest;

namespace {

// --- 8254: channel 2, whose gate is ours. ---
constexpr uint16_t kCounter = 0x42, kControl = 0x43, kGate = 0x61;
constexpr uint8_t kOut = 0x80, kNullCount = 0x40;

void Start(uint8_t control, uint16_t value) {
  Out8(kControl, control);
  Out8(kCounter, static_cast<uint8_t>(value));
  Out8(kCounter, static_cast<uint8_t>(value >> 8));
}
uint8_t Status() {
  Out8(kControl, 0xe8);  // read-back: the status of counter 2
  return In8(kCounter);
}
uint16_t Count() {
  Out8(kControl, 0xd8);  // read-back: the count of counter 2
  const uint8_t low = In8(kCounter);
  return static_cast<uint16_t>(low | In8(kCounter) << 8);
}
void Tick() {
  Delay(1);  // more than a thousand ticks
}

void Gate() {
  Section("8254, gate");
  if (UnderTcg()) return Skip("the gate of channel 2 (QEMU TCG has none in modes 0 to 3)");
  Out8(kGate, 0);
  Start(0xb0, 20000);  // mode 0: loaded, and it waits
  Tick();
  EXPECT_EQ(Count(), 20000);
  EXPECT_EQ(Status(), 0x30);
  Out8(kGate, 1);
  EXPECT(WaitFor([] { return Count() != 20000; }));
  Out8(kGate, 0);
  const uint16_t stopped = Count();
  Tick();
  EXPECT_EQ(Count(), stopped);  // it goes on from there
  Out8(kGate, 1);
  EXPECT(WaitFor([] { return (Status() & kOut) != 0; }));
  Out8(kGate, 0);
  EXPECT_EQ(Status() & kOut, kOut);

  for (const uint8_t mode : {2, 3}) {  // OUT is high without a gate, and a gate starts anew
    Start(static_cast<uint8_t>(0xb0 | mode << 1), 50000);
    Tick();
    EXPECT_EQ(Status(), kOut | 0x30 | mode << 1);
    Out8(kGate, 1);
    EXPECT(WaitFor([] { return Count() < 40000; }));
    Out8(kGate, 0);
    EXPECT_EQ(Status() & kOut, kOut);
  }

  Start(0xb2, 3000);  // mode 1: nothing before the gate rises; then OUT is low for the count
  Tick();
  EXPECT_EQ(Status() & kOut, kOut);
  EXPECT_EQ(Status() & kNullCount, kNullCount);
  Out8(kGate, 1);
  EXPECT(WaitFor([] { return (Status() & kNullCount) == 0; }));
  EXPECT(WaitFor([] { return (Status() & kOut) != 0; }));
  Out8(kGate, 0);
}

void Modes() {
  Section("8254, mode 0");
  Out8(kGate, 1);
  Out8(kControl, 0xb0);
  EXPECT_EQ(Status() & ~kNullCount, 0x30);  // OUT is low from the control word on
  Start(0xb0, 2000);
  EXPECT(WaitFor([] { return (Status() & kOut) != 0; }));
  Tick();
  EXPECT_EQ(Status(), kOut | 0x30);
  EXPECT(WaitFor([] { return Count() > 2000; }));  // it goes on from FFFF

  Section("8254, mode 2");
  Start(0xb4, 1000);
  Tick();
  bool within = true;
  unsigned changes = 0;
  for (unsigned i = 0, last = 0; i < 500; ++i) {
    const unsigned value = Count();
    within = within && value >= 1 && value <= 1000;
    if (value != last) ++changes;
    last = value;
  }
  EXPECT(within);
  EXPECT(changes > 1);
  EXPECT_EQ(Status() & ~kOut, 0x34);

  Section("8254, mode 3");  // by twos, OUT high for half of the time
  Start(0xb6, 60000);
  Tick();
  bool even = true;
  for (unsigned i = 0; i < 500; ++i) {
    const uint16_t value = Count();
    even = even && value % 2 == 0 && value >= 2 && value <= 60000;
  }
  EXPECT(even);
  for (unsigned i = 0; i < 2; ++i) {
    EXPECT(WaitFor([] { return (Status() & kOut) == 0; }));
    EXPECT(WaitFor([] { return (Status() & kOut) != 0; }));
  }
  EXPECT_EQ(Status() & ~kOut, 0x36);

  Section("8254, decimal");
  Start(0xb5, 0x9000);
  Tick();
  bool digits = true;
  for (unsigned i = 0; i < 500; ++i) {
    const uint16_t value = Count();
    for (unsigned shift = 0; shift < 16; shift += 4) digits = digits && (value >> shift & 15) <= 9;
    digits = digits && value <= 0x9000 && value >= 1;
  }
  if (!UnderTcg()) EXPECT(digits);  // which counts in binary
  EXPECT_EQ(Status() & ~kOut, 0x35);

  Section("8254, latches");
  Start(0xb4, 0);  // 65536
  Tick();
  // The second latch command does nothing before the first count is read: what is read is a whole
  // Tick() old. (Again, if the host slept through a round of the counter.)
  bool kept = false;
  for (unsigned tries = 0; tries < 5 && !kept; ++tries) {
    Out8(kControl, 0x80);
    Tick();
    Out8(kControl, 0x80);
    const uint8_t low = In8(kCounter);
    const auto latched = static_cast<uint16_t>(low | In8(kCounter) << 8);
    kept = static_cast<uint16_t>(latched - Count()) > 1000;
  }
  EXPECT(kept);
  // Status and count by one command: status first.
  Out8(kGate, 0);
  Out8(kControl, 0xc8);
  EXPECT_EQ(In8(kCounter) & ~kOut, 0x34);
  const uint8_t low = In8(kCounter);
  const auto both = static_cast<uint16_t>(low | In8(kCounter) << 8);
  if (!UnderTcg()) EXPECT_EQ(Count(), both);  // where it stands still
  Out8(kGate, 1);
  // One byte only.
  Out8(kControl, 0x94);
  Out8(kCounter, 200);
  Tick();
  bool small = true;
  for (unsigned i = 0; i < 100; ++i) small = small && In8(kCounter) <= 200;
  EXPECT(small);
  EXPECT_EQ(Status() & ~kOut, 0x14);
  Out8(kControl, 0xa4);  // the upper one
  Out8(kCounter, 0x20);
  Tick();
  for (unsigned i = 0; i < 100; ++i) small = small && In8(kCounter) <= 0x20;
  EXPECT(small);
  Out8(kGate, 0);
}

// --- RTC ---
uint8_t ReadRtc(uint8_t index) {
  Out8(0x70, index);
  return In8(0x71);
}
void WriteRtc(uint8_t index, uint8_t value) {
  Out8(0x70, index);
  Out8(0x71, value);
}
enum Rtc : uint8_t { kSec, kSecAlarm, kMin, kMinAlarm, kHour, kHourAlarm, kWeekday, kDay, kMonth };
constexpr uint8_t kYear = 9, kCentury = 0x32, kA = 10, kB = 11, kC = 12, kSet = 0x80;

volatile unsigned interrupts = 0;
volatile uint8_t flags = 0;

void SetTime(uint8_t b, uint8_t hour, uint8_t minute, uint8_t second) {
  WriteRtc(kB, b | kSet);
  WriteRtc(kHour, hour);
  WriteRtc(kMin, minute);
  WriteRtc(kSec, second);
  EXPECT_EQ(ReadRtc(kHour), hour);  // the clock stands still
  EXPECT_EQ(ReadRtc(kMin), minute);
  EXPECT_EQ(ReadRtc(kSec), second);
  WriteRtc(kB, b);
}

void Calendar() {
  Section("RTC, alarm and calendar");
  WriteRtc(kA, 0x20);  // no periodic interrupt
  WriteRtc(kB, 0x82);  // set; BCD, 24 hours
  WriteRtc(kDay, 0x28);
  WriteRtc(kMonth, 0x02);
  WriteRtc(kYear, 0x24);
  WriteRtc(kSecAlarm, 0);
  WriteRtc(kMinAlarm, 0);
  WriteRtc(kHourAlarm, 0);
  SetTime(0x02, 0x23, 0x59, 0x58);
  EnableApic();
  SetHandler(0x68, [](Frame&) {
    flags = ReadRtc(kC);
    interrupts = interrupts + 1;
    EndOfInterrupt();
  });
  SetIoapicPin(8, 0x68);
  ReadRtc(kC);
  interrupts = 0;
  WriteRtc(kB, 0x22);  // the alarm alone: once
  EnableInterrupts();
  EXPECT(WaitFor([] { return interrupts != 0; }, 4000));
  DisableInterrupts();
  EXPECT_EQ(interrupts, 1);
  EXPECT_EQ(flags & 0xa0, 0xa0);     // IRQF, AF
  EXPECT_EQ(ReadRtc(kC) & 0x20, 0);  // read, and gone
  // A leap year's day, at midnight.
  EXPECT_EQ(ReadRtc(kHour), 0);
  EXPECT_EQ(ReadRtc(kMin), 0);
  EXPECT_EQ(ReadRtc(kDay), 0x29);
  EXPECT_EQ(ReadRtc(kMonth), 0x02);
  EXPECT_EQ(ReadRtc(kYear), 0x24);

  Section("RTC, updates and periods");
  interrupts = 0;
  ReadRtc(kC);
  WriteRtc(kB, 0x12);  // UIE
  EnableInterrupts();
  EXPECT(WaitFor([] { return interrupts != 0; }, 4000));
  EXPECT_EQ(flags & 0x90, 0x90);
  WriteRtc(kB, 0x02);
  interrupts = 0;
  WriteRtc(kA, 0x26);
  ReadRtc(kC);
  WriteRtc(kB, 0x42);  // PIE, 1024 Hz
  EXPECT(WaitFor([] { return interrupts >= 5; }));
  EXPECT_EQ(flags & 0xc0, 0xc0);
  WriteRtc(kB, 0x02);
  Delay(2);
  interrupts = 0;
  Delay(5);
  EXPECT_EQ(interrupts, 0);
  DisableInterrupts();
  SetIoapicPin(8, kPinMasked);

  Section("RTC, forms");
  SetTime(0x00, 0x92, 0x30, 0x10);  // 12 hours: noon is 12 PM
  EXPECT_EQ(ReadRtc(kHour), 0x92);
  WriteRtc(kB, 0x02);
  WriteRtc(kB, 0x86);  // binary: every byte must be written anew
  WriteRtc(kWeekday, 5);
  WriteRtc(kDay, 28);
  WriteRtc(kMonth, 12);
  WriteRtc(kYear, 24);
  WriteRtc(kCentury, 20);
  SetTime(0x06, 17, 45, 30);
  EXPECT_EQ(ReadRtc(kHour), 17);
  EXPECT_EQ(ReadRtc(kMin), 45);
  EXPECT_EQ(ReadRtc(kDay), 28);
  EXPECT_EQ(ReadRtc(kMonth), 12);
  WriteRtc(kB, 0x86);  // the time stands still
  const uint8_t second = ReadRtc(kSec);
  EXPECT(second >= 30 && second <= 40);
  WriteRtc(kB, 0x06);
}

}  // namespace

void GuestMain() {
  Gate();
  Modes();
  Calendar();
}
