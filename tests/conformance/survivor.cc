// A guest that checks itself for as long as it runs, so that whatever is done to the machine around
// it (suspended, resumed, moved to another engine) must go unseen: memory, registers, x87 and SSE
// state, every clock, interrupts, on two processors.
//
// Prints a dot a round on COM1; a 'q' from there ends it with the verdict.
#include "lib/apic.h"
#include "lib/guest.h"

using namespace guest;

namespace {

constexpr uint16_t kCom1 = 0x3f8;
constexpr uint32_t kSystemTime = 0x4b564d01;  // [KVM-MSR]
constexpr uint8_t kTimerVector = 0x60, kIpiVector = 0x61;
constexpr unsigned kWords = 64 * 1024;

uint64_t memory[kWords];
volatile unsigned ticks = 0, ipis = 0;
volatile bool over = false;
volatile uint64_t other_rounds = 0, other_failures = 0;
volatile uint64_t latest_time = 0;  // what any processor has read from kvmclock

struct [[gnu::packed, gnu::aligned(32)]] PvTime {
  uint32_t version, pad;
  uint64_t tsc, ns;
  uint32_t multiplier;
  int8_t shift;
  uint8_t flags, pad2[2];
};
volatile PvTime pv_time[2];
bool has_kvmclock = false;

uint64_t KvmClock(unsigned cpu) {
  const volatile PvTime& t = pv_time[cpu];
  uint32_t version;
  uint64_t result;
  do {
    version = t.version;
    asm volatile("lfence" : : : "memory");
    uint64_t delta = Tsc() - t.tsc;
    delta = t.shift < 0 ? delta >> -t.shift : delta << t.shift;
    result =
        t.ns + static_cast<uint64_t>(static_cast<unsigned __int128>(delta) * t.multiplier >> 32);
    asm volatile("lfence" : : : "memory");
  } while ((version & 1) || version != t.version);
  return result;
}

// A value of its own for each place and round.
uint64_t Mix(uint64_t x) {
  x ^= x >> 31;
  x *= 0x9e3779b97f4a7c15;
  x ^= x >> 29;
  return x;
}

void CheckMemory(uint64_t round) {
  for (unsigned i = 0; i < kWords; i += 61) {
    if (memory[i] != Mix(round + i)) EXPECT_EQ(memory[i], Mix(round + i));
    memory[i] = Mix(round + 1 + i);
  }
}

// Values stand in all general, x87 and XMM registers through a loop; the sum of what changed.
uint64_t CheckRegisters(uint64_t seed) {
  uint64_t wrong = 0;
  alignas(16) static uint8_t image[2][512];
  asm volatile("fninit\n fldpi\n fldl2e\n fld1" : : : "memory");
#define X(n) "movq %[seed], %%xmm" #n "\n pslldq $" #n ", %%xmm" #n "\n"
  asm volatile(X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
               :
               : [seed] "r"(seed)
               : "memory");
#undef X
  asm volatile("fxsave64 %0" : "=m"(image[0]) : : "memory");
  asm volatile(
      "mov %[seed], %%r8\n lea 1(%[seed]), %%r9\n lea 2(%[seed]), %%r10\n lea 3(%[seed]), %%r11\n"
      "lea 4(%[seed]), %%r12\n lea 5(%[seed]), %%r13\n lea 6(%[seed]), %%r14\n"
      "lea 7(%[seed]), %%r15\n"
      "mov $3000, %%ecx\n"
      "1: add $3, %%rbx\n"
      "sub $1, %%ecx\n"
      "jnz 1b\n"
      "xor %%eax, %%eax\n"
      "sub %[seed], %%r8\n or %%r8, %%rax\n"
      "sub %[seed], %%r9\n sub $1, %%r9\n or %%r9, %%rax\n"
      "sub %[seed], %%r10\n sub $2, %%r10\n or %%r10, %%rax\n"
      "sub %[seed], %%r11\n sub $3, %%r11\n or %%r11, %%rax\n"
      "sub %[seed], %%r12\n sub $4, %%r12\n or %%r12, %%rax\n"
      "sub %[seed], %%r13\n sub $5, %%r13\n or %%r13, %%rax\n"
      "sub %[seed], %%r14\n sub $6, %%r14\n or %%r14, %%rax\n"
      "sub %[seed], %%r15\n sub $7, %%r15\n or %%r15, %%rax\n"
      "sub $9000, %%rbx\n sub %[seed], %%rbx\n or %%rbx, %%rax\n"
      : "=&a"(wrong)
      : [seed] "D"(seed), "b"(seed)
      : "rcx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory", "cc");
  asm volatile("fxsave64 %0" : "=m"(image[1]) : : "memory");
  if (wrong) return wrong;
  for (unsigned i = 0; i < 416; ++i) {
    // Where in the image, what it was, what it is.
    if (image[0][i] != image[1][i])
      return uint64_t{i} << 48 | 1ull << 32 | image[0][i] << 8 | image[1][i];
  }
  return 0;
}

void OnTimer(Frame&) {
  ++ticks;
  EndOfInterrupt();
}
void OnIpi(Frame&) {
  ++ipis;
  EndOfInterrupt();
}

void SetUpKvmClock(unsigned cpu) {
  if (has_kvmclock) WriteMsr(kSystemTime, reinterpret_cast<uint64_t>(&pv_time[cpu]) | 1);
}

// The second processor: a clock that must not fall behind what the first has read.
void OtherCpu(unsigned) {
  SetUpKvmClock(1);
  uint64_t tsc = Tsc();
  while (!over) {
    const uint64_t seen = latest_time;
    const uint64_t now = Tsc();
    if (now < tsc || (has_kvmclock && KvmClock(1) < seen)) other_failures = other_failures + 1;
    tsc = now;
    if (!has_kvmclock || KvmClock(1) >= seen) other_rounds = other_rounds + 1;
    Pause();
  }
}

bool Asked() {
  return (In8(kCom1 + 5) & 1) && In8(kCom1) == 'q';
}

void Run() {
  uint64_t round = 0, tsc = Tsc(), time = 0;
  uint32_t pm = PmTimer();
  unsigned last_ticks = 0, stalled = 0, sent = 0;
  for (unsigned i = 0; i < kWords; ++i) memory[i] = Mix(i);
  EnableInterrupts();
  while (!Asked()) {
    CheckMemory(round);
    ++round;
    EXPECT_EQ(CheckRegisters(Mix(round)), 0);

    const uint64_t now = Tsc();
    EXPECT(now >= tsc);
    tsc = now;
    uint64_t passed = 0;  // nanoseconds
    if (has_kvmclock) {
      const uint64_t read = KvmClock(0);
      EXPECT(read >= time);
      passed = read - time;
      time = read;
      latest_time = read;
    }
    // It never goes back; a slow engine may let it go round.
    const uint32_t pm_now = PmTimer();
    if (passed < 2'000'000'000) EXPECT(((pm_now - pm) & 0xffffff) < 0x800000);
    pm = pm_now;

    SendIpi(kFixed | kAssert | kSelf | kIpiVector);
    ++sent;
    EXPECT(WaitFor([&] { return ipis == sent; }));
    stalled = ticks == last_ticks ? stalled + 1 : 0;
    if (stalled > 0 && !WaitFor([&] { return ticks != last_ticks; })) EXPECT(!"the timer ticks");
    last_ticks = ticks;
    if (round % 4 == 0) Print(".");
  }
  DisableInterrupts();
}

}  // namespace

void GuestMain() {
  Section("survivor");
  WriteCr4(ReadCr4() | 0x600);  // OSFXSR, OSXMMEXCPT
  const CpuidResult signature = Cpuid(0x40000000);
  has_kvmclock = signature.ebx == 0x4b4d564b && (Cpuid(0x40000001).eax & 8);
  if (!has_kvmclock) Skip("kvmclock");
  SetUpKvmClock(0);
  EnableApic();
  SetHandler(kTimerVector, OnTimer);
  SetHandler(kIpiVector, OnIpi);
  WriteApic(Apic::TIMER_DIVIDE, 3);
  WriteApic(Apic::LVT_TIMER, 0x20000 | kTimerVector);  // periodic
  WriteApic(Apic::TIMER_INITIAL, 500'000);
  const bool two = StartCpu(1, OtherCpu);
  if (!two) Skip("a second processor");
  Print("running\n");
  Run();
  over = true;
  EXPECT_EQ(other_failures, 0);
  if (two) EXPECT(other_rounds > 0);
  Print("\n");
}
