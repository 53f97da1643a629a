// Every kind of memory access of hot code at CPL 3, at every place where it may not be made: the
// fault has the exact address, error code and registers, nothing was written, and with the page
// there the instruction does what it does at CPL 0. [SDM 3A] 4.7, 6.5, 6.15
#include "lib/process.h"

using namespace guest;

namespace {

struct Attempt {  // as user_attempts.S lays them out
  uint64_t loop, fault, after;
  const char* name;
  uint64_t bias, fill, fixed;
  uint16_t size;
  uint8_t access, reg, align, need, flags, unused;
};
static_assert(sizeof(Attempt) == 64);
enum Access : uint8_t { kReads = 1, kWrites = 2 };
enum Base : uint8_t { kRdi = 7, kFs = 16, kGs = 17, kFixed = 18, kRsp = 4, kRbp = 5 };
enum Flags : uint8_t {
  kAfter = 1,
  kLow = 2,
  kRaxAfter = 4,
  kRdiAfter = 8,
  kDataSegment = 16,
  kTcgDiffers = 32
};
extern "C" const Attempt attempts[], attempts_end[];
extern "C" char attempt_state[], attempt_near[];

// What the loops load their registers with.
struct State {
  uint64_t reg[13], summands[2], pad, xmm[4];
};
State& state = *reinterpret_cast<State*>(attempt_state);
static_assert(__builtin_offsetof(State, xmm) == 128);
// Where pointers that are not tested point to, on the same page.
uint64_t Scratch(unsigned offset) {
  return UserLinear(attempt_state) + offset;
}

enum class Place : uint8_t { kInside, kEnd, kAcross, kStart, kLast, kAt };
struct Situation {
  const char* name;
  Place place;
  uint64_t flags[2];  // of two pages that follow each other
  uint64_t address = 0;
};
constexpr uint64_t kReadOnly = kPresent | kUser, kSupervisor = kPresent | kWrite;
constexpr Situation kSituations[] = {
    {"absent", Place::kInside, {0, kUserPage}},
    {"read-only", Place::kInside, {kReadOnly, 0}},
    {"supervisor", Place::kInside, {kSupervisor, kUserPage}},
    {"supervisor, read-only", Place::kInside, {kPresent, 0}},
    {"the end of a page", Place::kEnd, {kUserPage, 0}},
    {"the start of a page", Place::kStart, {0, kUserPage}},
    {"the end of a page, the next read-only", Place::kEnd, {kUserPage, kReadOnly}},
    {"the start, absent", Place::kStart, {kUserPage, 0}},
    {"into absent", Place::kAcross, {kUserPage, 0}},
    {"into read-only", Place::kAcross, {kUserPage, kReadOnly}},
    {"into supervisor", Place::kAcross, {kUserPage, kSupervisor}},
    {"from absent", Place::kAcross, {0, kUserPage}},
    {"from read-only", Place::kAcross, {kReadOnly, kUserPage}},
    {"from supervisor into absent", Place::kAcross, {kSupervisor, 0}},
    {"from read-only into absent", Place::kAcross, {kReadOnly, 0}},
    {"across", Place::kAcross, {kUserPage, kUserPage}},
    {"out of the user's half", Place::kLast, {kUserPage, kUserPage}},
    {"page 0", Place::kAt, {}, 0x10},
    {"the kernel", Place::kAt, {}, 0x100040},
    {"the kernel's half", Place::kAt, {}, kKernelHalf + 0x100040},
    {"the local APIC", Place::kAt, {}, 0xfee00020},
    {"the uppermost page", Place::kAt, {}, 0xfffffffffffffe00},
    {"the last of the user's half", Place::kAt, {}, 0x7fffffffff80},
    {"the first that is not canonical", Place::kAt, {}, 0x800000000000},
    {"not canonical", Place::kAt, {}, 0x8000000000000000},
    {"the last that is not canonical", Place::kAt, {}, 0xffff7fffffffff00},
    {"not canonical, by one bit", Place::kAt, {}, UINT64_C(0x0001555500000040)},
};
// Where the two pages are: usual, at the bottom, over 2 GiB, at the very top of the user's half.
constexpr uint64_t kTop = 0x7fffffffe000;
constexpr uint64_t kBases[] = {0x7f3a12345000, 0, 0x1000, 0x7ffff000, kTop};
constexpr unsigned kLowBases = 1, kLowBaseCount = 3;

// Summands and the flags of their sums: none, OF SF, ZF CF AF PF, OF CF ZF PF.
constexpr uint64_t kSummands[][2] = {
    {1, 1}, {0x7fffffffffffffff, 0x1f}, {~0ull, 1}, {0x8000000000000000, 0x8000000000000000}};
constexpr uint64_t kArithmetic = 0x8d5, kRF = 0x10000, kMarker = 0x4d61726b6d61726b;
constexpr unsigned kHot = 3000, kAround = 128;

AddressSpace* space;
uint64_t frames[2];
FpuImage clean, wanted_fpu, got_fpu;
char words[160];

void Name(const Attempt& attempt, const char* situation) {
  char* to = words;
  for (const char* part : {attempt.name, ": ", situation})
    for (; *part != 0 && to < words + sizeof words - 1; ++part) *to++ = *part;
  *to = 0;
  Section(words);
}

// One attempt in one situation.
struct Trial {
  const Attempt& attempt;
  uint64_t target, base;
  unsigned cpu_flags = 0;  // which summands

  uint8_t& Byte(uint64_t linear) const {
    return *reinterpret_cast<uint8_t*>(frames[linear >= base + 4096] + (linear & 4095));
  }
  void Pages(uint64_t first, uint64_t second) const {
    for (unsigned i = 0; i < 2; ++i) {
      const uint64_t flags = i == 0 ? first : second, linear = base + 4096 * i;
      if (linear >> 47 == 0) space->Map(linear, flags != 0 ? frames[i] | flags : 0);
    }
  }
  void Forget() const {
    InvalidatePage(base);
    InvalidatePage(base + 4096);
  }
  // Registers and what they point to, as before each run.
  void Prepare(bool memory) const {
    constexpr uint64_t kValues[13] = {0x1122334455663456,
                                      0x0f0e0d0c0b0a0903,
                                      0x0123456789abcdef,
                                      0,
                                      0,
                                      0,
                                      0,
                                      0,
                                      0x8080808080808080,
                                      0x909,
                                      0xa0a,
                                      0xb0b,
                                      0x1234567890abcdef};
    for (unsigned i = 0; i < 13; ++i) state.reg[i] = kValues[i];
    for (unsigned i = 3; i < 8; ++i) state.reg[i] = Scratch(0x200 + 0x80 * i);
    uint64_t* const scratch = reinterpret_cast<uint64_t*>(attempt_state) + 0x200 / 8;
    for (unsigned i = 0; i < 0x400 / 8; ++i)
      const_cast<volatile uint64_t*>(scratch)[i] = 0x0101010101010101 * i;
    for (unsigned i = 0; i < 2; ++i) state.summands[i] = kSummands[cpu_flags][i];
    state.xmm[0] = 0x3ff8000000000000, state.xmm[1] = 0x400921fb54442d18;
    state.xmm[2] = 0x3f8000003f800000, state.xmm[3] = 0x40490fdb40000000;
    if (attempt.flags & kRaxAfter) state.reg[0] = attempt.after;
    if (attempt.flags & kRdiAfter)
      WriteMemory<uint64_t>(state.reg[kRdi] - kUserShift, attempt.after);
    const uint64_t pointer = target - attempt.bias;
    if (attempt.reg < 13) state.reg[attempt.reg] = pointer;
    if (attempt.flags & kLow)
      state.reg[attempt.reg] = (pointer & 0xffffffff) | UINT64_C(0x8bad000000000000);
    WriteMsr(0xc0000100, attempt.reg == kFs ? pointer : 0);
    WriteMsr(0xc0000101, attempt.reg == kGs ? pointer : 0);
    LoadFpu(clean);
    if (!memory) return;
    for (uint64_t at = target - kAround; at != target + kAround; ++at)
      if (at - base < 8192) Byte(at) = static_cast<uint8_t>(0x35 + (at - target) * 7);
    const uint64_t fill = attempt.flags & kAfter ? attempt.after : attempt.fill;
    for (unsigned i = 0; fill != 0 && i < attempt.size && i < 8; ++i)
      Byte(target + i) = static_cast<uint8_t>(fill >> (8 * i));
  }
  uint64_t Sum() const {
    uint64_t hash = 0;
    for (uint64_t at = target - kAround; at != target + kAround; ++at)
      if (at - base < 8192) hash = (hash + Byte(at) + 1) * 0x9e3779b97f4a7c15;
    const auto* scratch = reinterpret_cast<const uint64_t*>(attempt_state) + 0x200 / 8;
    for (unsigned i = 0; i < 0x400 / 8; ++i)
      hash = (hash ^ const_cast<const volatile uint64_t*>(scratch)[i]) * 0x9e3779b97f4a7c15;
    return hash;
  }
  Trap Run(uint64_t count, bool kernel = false) const {
    Frame frame = UserFrame(attempt.loop);
    frame.r14 = kMarker;
    frame.r15 = count;
    if (kernel) frame.cs = kCode64, frame.ss = kData;
    const Trap trap = Resume(frame);
    SaveFpu(got_fpu);
    LoadFpu(clean);
    return trap;
  }
};

void ExpectSameFpu() {
  unsigned differences = 0;
  // Without the pointers, which depend on the processor.
  for (unsigned i = 0; i < 416; ++i)
    if ((i < 6 || i >= 24) && got_fpu.bytes[i] != wanted_fpu.bytes[i]) ++differences;
  EXPECT_EQ(differences, 0);
}

uint64_t Register(const Frame& frame, unsigned number) {
  const uint64_t registers[] = {frame.rax, frame.rcx, frame.rdx, frame.rbx, frame.rsp,
                                frame.rbp, frame.rsi, frame.rdi, frame.r8,  frame.r9,
                                frame.r10, frame.r11, frame.r12};
  return registers[number];
}

void ExpectSame(const Frame& got, const Frame& wanted) {
  for (unsigned i = 0; i < 13; ++i) EXPECT_EQ(Register(got, i), Register(wanted, i));
  EXPECT_EQ(got.r13, wanted.r13);
  EXPECT_EQ(got.r14, wanted.r14);  // the flags
  EXPECT_EQ(got.r15, wanted.r15);
  EXPECT_EQ(got.rip, wanted.rip);
  EXPECT_EQ(got.rflags & kArithmetic, wanted.rflags & kArithmetic);
  ExpectSameFpu();
}

// The state before the instruction.
void ExpectUntouched(const Trial& trial, const Trap& trap) {
  EXPECT_EQ(trap.rip, trial.attempt.fault);
  EXPECT_EQ(trap.cs, kUserCode64);
  EXPECT_EQ(trap.frame.ss, kUserData);
  for (unsigned i = 0; i < 13; ++i) EXPECT_EQ(Register(trap.frame, i), state.reg[i]);
  uint64_t sum = state.summands[0], flags = 0;
  asm volatile("add %2, %0\n pushf\n pop %1"
               : "+r"(sum), "=r"(flags)
               : "r"(state.summands[1])
               : "cc", "memory");
  EXPECT_EQ(trap.frame.r13, sum);
  EXPECT_EQ(trap.frame.r14, kMarker);
  EXPECT_EQ(trap.frame.r15, 1);
  const uint64_t resume = UnderTcg() ? trap.rflags & kRF : uint64_t{kRF};
  EXPECT_EQ(trap.rflags, (flags & kArithmetic) | 2 | resume);
}

// The exception that must come.
struct Outcome {
  bool fault = false;
  uint8_t vector = kPF;
  uint64_t error = 0, cr2 = 0;
};
bool Canonical(uint64_t address) {
  return static_cast<uint64_t>(static_cast<int64_t>(address << 16) >> 16) == address;
}
Outcome Expected(const Trial& trial, const Situation& situation) {
  const Attempt& attempt = trial.attempt;
  const bool stack =
      attempt.reg == kRsp || (attempt.reg == kRbp && !(attempt.flags & kDataSegment));
  const uint64_t end = trial.target + attempt.size - 1;
  if (!Canonical(trial.target) || (!Canonical(end) && end != 0))
    return {true, stack && !UnderTcg() ? kSS : kGP, 0, 0};
  if (trial.target % attempt.align != 0) return {true, kGP, 0, 0};
  // QEMU's translator reads first what it changes.
  const bool reads_first = UnderTcg() && attempt.access == (kReads | kWrites);
  for (const bool writes :
       {!reads_first && (attempt.access & kWrites), bool(attempt.access & kWrites)}) {
    for (uint64_t at = trial.target; at != end + 1; ++at) {
      uint64_t flags = 0;
      if (situation.place < Place::kAt) flags = situation.flags[at >= trial.base + 4096];
      if (situation.place == Place::kAt && (at & 0x7fffffffffff) >> 20 == 1) flags = kSupervisor;
      if (situation.place == Place::kAt && at >> 20 == 0xfee) flags = kSupervisor;
      if ((flags & kPresent) && (flags & kUser) && (!writes || (flags & kWrite))) continue;
      return {true, kPF, (flags & kPresent) | (writes ? 2u : 0) | 4, at};
    }
  }
  return {};
}

void TryAt(const Trial& trial, const Situation& situation, bool invalidate) {
  Name(trial.attempt, situation.name);
  const Outcome expected = Expected(trial, situation);
  const bool repairable = situation.place < Place::kLast && expected.vector == kPF;
  trial.Pages(kUserPage, kUserPage);
  trial.Forget();
  Trap reference;
  uint64_t wanted_sum = 0;
  if (repairable) {
    trial.Prepare(true);
    reference = trial.Run(1, true);
    EXPECT_TRAP(reference, 0x80, 0);
    wanted_fpu = got_fpu;
    wanted_sum = trial.Sum();
  }
  trial.Prepare(true);
  trial.Pages(situation.flags[0], situation.flags[1]);
  trial.Forget();
  const uint64_t sum_before = trial.Sum();
  Trap trap = trial.Run(1);
  if (expected.fault) {
    EXPECT_TRAP(trap, expected.vector, expected.error);
    if (expected.vector == kPF) EXPECT_EQ(trap.cr2, expected.cr2);
    ExpectUntouched(trial, trap);
    EXPECT_EQ(trial.Sum(), sum_before);
    if (!repairable || !trap.taken) return;
    // The page comes, and the instruction is made as if nothing had been. What is not present is
    // in no TLB; INVLPG of it is needless. [SDM 3A] 4.10.4.3
    trial.Pages(kUserPage, kUserPage);
    if (invalidate || (expected.error & 1)) trial.Forget();
    LoadFpu(got_fpu);
    trap = Resume(trap.frame);
    SaveFpu(got_fpu);
  }
  EXPECT_TRAP(trap, 0x80, 0);
  ExpectSame(trap.frame, reference.frame);
  EXPECT_EQ(trial.Sum(), wanted_sum);
}

// Where the operand is; false: that can't be.
bool PlaceOf(const Attempt& attempt, const Situation& situation, uint64_t base, uint64_t& target) {
  if (attempt.reg == kFixed) {
    const bool across = (attempt.fixed & 4095) + attempt.size > 4096;
    target = attempt.fixed;
    return situation.place == (across ? Place::kAcross : Place::kInside);
  }
  switch (situation.place) {
    case Place::kInside:
      target = base + 0x840;
      break;
    case Place::kEnd:
      target = base + 4096 - attempt.size;
      break;
    case Place::kStart:
      target = base + 4096;
      break;
    case Place::kAcross:
      target = base + 4096 - attempt.size / 2;
      break;
    case Place::kLast:
      target = base + 8192 - attempt.size / 2;
      break;
    case Place::kAt:
      target = situation.address;
      break;
  }
  if (attempt.size == 1 && (situation.place == Place::kAcross || situation.place == Place::kLast))
    return false;
  // The processor takes no such base.
  const bool base_in_msr = attempt.reg == kFs || attempt.reg == kGs;
  if (base_in_msr && !Canonical(target - attempt.bias)) return false;
  return !(attempt.flags & kLow) || target >> 32 == 0;
}

bool Has(unsigned feature) {  // a bit of leaf 1, ECX
  return Cpuid(1).ecx >> feature & 1;
}
bool MayTry(const Attempt& attempt) {
  if ((attempt.flags & kTcgDiffers) && UnderTcg()) return false;
  if (attempt.need > 64) return Cpuid(0).eax >= 7 && Cpuid(7).ebx >> (attempt.need - 65) & 1;
  return attempt.need == 0 || Has(attempt.need - 1);
}

void TryEverywhere(const Attempt& attempt, unsigned number) {
  unsigned turn = number;
  // Hot first, and then again and again in between.
  for (const Situation& situation : kSituations) {
    ++turn;
    uint64_t base = attempt.flags & kLow ? kBases[kLowBases + turn % kLowBaseCount]
                                         : kBases[turn % (sizeof kBases / sizeof *kBases)];
    if (situation.place == Place::kLast) base = kTop;
    if (attempt.reg == kFixed) base = UserLinear(attempt_near);
    uint64_t target = 0;
    if (!PlaceOf(attempt, situation, base, target)) continue;
    if (&situation == kSituations) {
      Name(attempt, "hot");
      const Trial hot{attempt, target, base, 0};
      hot.Pages(kUserPage, kUserPage);
      hot.Forget();
      hot.Prepare(true);
      EXPECT_TRAP(hot.Run(kHot), 0x80, 0);
    }
    TryAt({attempt, target, base, turn % 4}, situation, turn & 4);
    Trial{attempt, target, base, 0}.Pages(0, 0);
    Trial{attempt, target, base, 0}.Forget();
  }
}

}  // namespace

void GuestMain() {
  StartProcesses();
  SetGateStack(0x80, 1);  // a reference run is at CPL 0 with any RSP
  asm volatile("fninit");
  SaveFpu(clean);
  AddressSpace process;
  space = &process;
  frames[1] = NewFrame();  // not in the order of their addresses
  frames[0] = NewFrame();
  process.Map(UserLinear(attempt_state), reinterpret_cast<uint64_t>(attempt_state) | kUserPage);
  process.Use();
  unsigned number = 0;
  for (const Attempt* attempt = attempts; attempt != attempts_end; ++attempt)
    if (MayTry(*attempt)) TryEverywhere(*attempt, number++);
}
