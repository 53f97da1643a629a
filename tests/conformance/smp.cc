// A second processor: started by INIT and SIPI, interrupted, stopped and started again; atomics.
// [SDM 3A] 8.1, 8.4, 10.4.7
#include "lib/apic.h"
#include "lib/guest.h"

using namespace guest;

namespace {

constexpr unsigned kRounds = 20000;
volatile uint64_t shared_count = 0;
volatile unsigned interrupts = 0, nmis = 0, phase = 0, seen_id = ~0u;
volatile uint64_t unlocked = 0;
volatile uint8_t lock_byte = 0;

void AddShared() {
  for (unsigned i = 0; i < kRounds; ++i) {
    asm volatile("lock incq %0" : "+m"(shared_count) : : "cc");
    uint8_t taken = 1;
    do asm volatile("xchgb %0, %1" : "+q"(taken), "+m"(lock_byte) : : "memory");
    while (taken && (Pause(), true));
    unlocked = unlocked + 1;
    lock_byte = 0;
  }
}

[[noreturn]] void Second(unsigned) {
  EnableApic();
  seen_id = ReadApic(Apic::ID) >> 24;
  phase = 1;
  while (phase != 2) Pause();
  AddShared();
  phase = 3;
  for (;;) WaitForInterrupt();
}

[[noreturn]] void SecondAgain(unsigned) {
  EnableApic();
  phase = 10;
  for (;;) asm volatile("cli\n hlt");
}

bool WaitForPhase(unsigned wanted) {
  return WaitFor([=] { return phase == wanted; }, 5000);
}

void Start() {
  Section("INIT and SIPI");
  EnableApic();
  EXPECT(ReadMsr(0x1b) & 0x100);  // this is the boot processor
  phase = 0;
  EXPECT(StartCpu(1, Second));
  if (!WaitForPhase(1)) {
    EXPECT(false && "the second processor came up");
    Finish();
  }
  EXPECT_EQ(seen_id, 1);
}

void Atomics() {
  Section("locked instructions");
  shared_count = unlocked = 0;
  phase = 2;
  AddShared();
  EXPECT(WaitForPhase(3));
  EXPECT_EQ(shared_count, 2 * kRounds);
  EXPECT_EQ(unlocked, 2 * kRounds);
}

void Interrupts() {
  Section("IPIs");
  SetHandler(0x55, [](Frame&) {
    ++interrupts;
    EndOfInterrupt();
  });
  for (unsigned i = 1; i <= 20; ++i) {  // each wakes it from HLT
    SendIpi(kFixed | kAssert | 0x55, 1);
    EXPECT(WaitFor([=] { return interrupts == i; }));
  }
  SendIpi(kOthers | kAssert | 0x55);
  EXPECT(WaitFor([] { return interrupts == 21; }));
  SetHandler(kNmi, [](Frame&) { ++nmis; });
  SendIpi(kNmiMode | kAssert, 1);
  EXPECT(WaitFor([] { return nmis == 1; }));
  SendIpi(kFixed | kAssert | 0x55, 0xff);  // everybody, and this processor is busy
  EnableInterrupts();
  EXPECT(WaitFor([] { return interrupts >= 23; }));
  DisableInterrupts();
}

void Restart() {
  Section("a second INIT");
  phase = 0;
  EXPECT(StartCpu(1, SecondAgain));
  EXPECT(WaitForPhase(10));
  // A SIPI to a processor that runs, or halts, does nothing.
  phase = 11;
  SendIpi(kStartup | kAssert | 8, 1);
  Delay(5);
  EXPECT_EQ(phase, 11);
}

}  // namespace

void GuestMain() {
  Start();
  Atomics();
  Interrupts();
  Restart();
}
