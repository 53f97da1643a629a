// Code that another processor changes while this one runs it. [SDM 3A] 8.1.3
#include "lib/apic.h"
#include "lib/code.h"
#include "lib/guest.h"

using namespace guest;

namespace {

enum Order : unsigned { kNone, kRunOnce, kRunOn, kSpin };
volatile unsigned order = kNone, order_number = 0, done_number = 0;
volatile uint32_t seen = 0, wrong = 0;
volatile uint64_t runs = 0;

bool Known(uint32_t value) {
  return value == 0x11111111 || value == 0x22222222;
}

[[noreturn]] void Second(unsigned) {
  unsigned number = 0;
  for (;;) {
    while (order_number == number) Pause();
    Serialize();
    number = order_number;
    if (order == kRunOnce) seen = Call(ScratchPage(0));
    if (order == kSpin) seen = Call(ScratchPage(0) + 64);
    while (order == kRunOn) {
      const uint32_t value = Call(ScratchPage(0));
      if (!Known(value)) wrong = wrong + 1;
      seen = value;
      runs = runs + 1;
    }
    done_number = number;
  }
}

void Give(Order what) {
  order = what;
  order_number = order_number + 1;
}
bool Done() {
  return WaitFor([] { return done_number == order_number; }, 10000);
}

void CrossModified() {
  Section("another processor, hand in hand");
  EnableApic();
  const uint64_t page = ScratchPage(0);
  Put(page, Returning(0x11111111));
  Put(page + 64, 0x9090909090c3feeb);  // 1: jmp 1b; ret
  EXPECT(StartCpu(1, Second));
  for (uint32_t round = 0; round < 100; ++round) {
    Put(page, Returning(round));
    Give(kRunOnce);
    if (!Done()) {
      EXPECT(false && "the other processor answers");
      return;
    }
    EXPECT_EQ(seen, round);
    // And back: what it ran is changed and run here.
    Put(page, Returning(round + 1000));
    EXPECT_EQ(Call(page), round + 1000);
  }

  Section("another processor, unasked");
  // Old or new, never a mix; and new in the end.
  constexpr uint64_t kOld = Returning(0x11111111);
  constexpr uint64_t kNew = 0x9090c30000000000 + 0x0d + (uint64_t{0x22222222} << 8);  // or
  Put(page, kOld);
  Give(kRunOn);
  for (unsigned round = 0; round < 2000; ++round) {
    Put(page, round & 1 ? kOld : kNew);
    for (unsigned i = 0; i < 5; ++i) Pause();
  }
  for (unsigned round = 0; round < 20; ++round) {
    const uint32_t wanted = round & 1 ? 0x11111111 : 0x22222222;
    Put(page, round & 1 ? kOld : kNew);
    const bool arrived = WaitFor([=] { return seen == wanted; }, 10000);
    EXPECT(arrived);
    if (!arrived) break;
  }
  order = kNone;
  EXPECT(Done());
  EXPECT_EQ(wrong, 0);
  EXPECT(runs >= 20);

  Section("another processor, in a loop of one instruction");
  for (unsigned round = 0; round < 10; ++round) {
    WriteMemory<uint16_t>(page + 64, 0xfeeb);
    Give(kSpin);
    Delay(1);
    EXPECT(done_number != order_number);
    WriteMemory<uint16_t>(page + 64, 0x9090);  // aligned, and as long
    const bool ended = Done();
    EXPECT(ended);
    if (!ended) break;
  }
}

}  // namespace

void GuestMain() {
  CrossModified();
}
