#include "attempts.h"

namespace guest {

namespace {

// What the loops load their registers with.
struct State {
  uint64_t reg[13], summands[2], pad, xmm[4];
};
State& state = *reinterpret_cast<State*>(attempt_state);
static_assert(__builtin_offsetof(State, xmm) == 128);

// What all registers but the tested one point to, on the same page.
constexpr unsigned kScratch = 0x200, kScratchBytes = 0x400;
uint64_t ScratchOf(unsigned reg) {
  return UserLinear(attempt_state) + kScratch + 0x80 * reg;
}
volatile uint64_t* ScratchWords() {
  return reinterpret_cast<volatile uint64_t*>(attempt_state + kScratch);
}

// Summands and the flags of their sums: none, OF SF, ZF CF AF PF, OF CF ZF PF.
constexpr uint64_t kSummandsOf[Trial::kSummands][2] = {
    {1, 1}, {0x7fffffffffffffff, 0x1f}, {~0ull, 1}, {0x8000000000000000, 0x8000000000000000}};
constexpr uint64_t kArithmetic = 0x8d5, kRF = 0x10000, kMarker = 0x4d61726b6d61726b;
constexpr unsigned kAround = 128;
constexpr struct Pattern {
  uint8_t bytes[2 * kAround] = {};
  constexpr Pattern() {
    for (unsigned i = 0; i < 2 * kAround; ++i)
      bytes[i] = static_cast<uint8_t>(0x35 + (i - kAround) * 7);
  }
} kPattern;

AddressSpace* space;
uint64_t frames[2];
FpuImage clean;
char words[160];

uint64_t Register(const Frame& frame, unsigned number) {
  const uint64_t registers[] = {frame.rax, frame.rcx, frame.rdx, frame.rbx, frame.rsp,
                                frame.rbp, frame.rsi, frame.rdi, frame.r8,  frame.r9,
                                frame.r10, frame.r11, frame.r12};
  return registers[number];
}

bool Canonical(uint64_t address) {
  return static_cast<uint64_t>(static_cast<int64_t>(address << 16) >> 16) == address;
}

bool Has(unsigned feature) {  // a bit of leaf 1, ECX
  return Cpuid(1).ecx >> feature & 1;
}

}  // namespace

void PrepareAttempts(AddressSpace& process, uint64_t page_flags) {
  asm volatile("fninit");
  SaveFpu(clean);
  space = &process;
  frames[1] = NewFrame();  // not in the order of their addresses
  frames[0] = NewFrame();
  process.Map(UserLinear(attempt_state), reinterpret_cast<uint64_t>(attempt_state) | page_flags);
}

bool MayTry(const Attempt& attempt) {
  if ((attempt.flags & kTcgDiffers) && UnderTcg()) return false;
  if (attempt.need > 64) return Cpuid(0).eax >= 7 && Cpuid(7).ebx >> (attempt.need - 65) & 1;
  return attempt.need == 0 || Has(attempt.need - 1);
}

void NameSection(const Attempt& attempt, const char* situation) {
  char* to = words;
  for (const char* part : {attempt.name, ": ", situation})
    for (; *part != 0 && to < words + sizeof words - 1; ++part) *to++ = *part;
  *to = 0;
  Section(words);
}

uint8_t& Trial::Byte(uint64_t linear) const {
  return *reinterpret_cast<uint8_t*>(frames[linear >= base + 4096] + (linear & 4095));
}

// What is around the operand, a page at a time, with the place in kPattern.
template <class Visit>
void Trial::ForEachPart(Visit visit) const {
  const uint64_t begin = target - kAround < base || target < kAround ? base : target - kAround;
  uint64_t left = target + kAround - begin;
  if (target - base >= 8192 + kAround) return;  // they are elsewhere
  for (uint64_t at = begin; left > 0 && at - base < 8192;) {
    const uint64_t count = left < 4096 - (at & 4095) ? left : 4096 - (at & 4095);
    visit(&Byte(at), static_cast<unsigned>(at + kAround - target), static_cast<unsigned>(count));
    at += count;
    left -= count;
  }
}

void Trial::Pages(uint64_t first, uint64_t second) const {
  for (unsigned i = 0; i < 2; ++i) {
    const uint64_t flags = i == 0 ? first : second, linear = base + 4096 * i;
    space->Map(linear, flags != 0 ? frames[i] | flags : 0);
  }
}

void Trial::Forget() const {
  InvalidatePage(base);
  InvalidatePage(base + 4096);
}

void Trial::Prepare() const {
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
  for (unsigned i = 3; i < 8; ++i) state.reg[i] = ScratchOf(i);
  for (unsigned i = 0; i < kScratchBytes / 8; ++i) ScratchWords()[i] = 0x0101010101010101 * i;
  for (unsigned i = 0; i < 2; ++i) state.summands[i] = kSummandsOf[summands][i];
  state.xmm[0] = 0x3ff8000000000000, state.xmm[1] = 0x400921fb54442d18;
  state.xmm[2] = 0x3f8000003f800000, state.xmm[3] = 0x40490fdb40000000;
  if (attempt.flags & kRaxAfter) state.reg[0] = attempt.after;
  if (attempt.flags & kRdiAfter) WriteMemory<uint64_t>(state.reg[kRdi] - kUserShift, attempt.after);
  const uint64_t pointer = target - attempt.bias;
  if (attempt.reg < 13) state.reg[attempt.reg] = pointer;
  if (attempt.flags & kLow)
    state.reg[attempt.reg] = (pointer & 0xffffffff) | UINT64_C(0x8bad000000000000);
  WriteMsr(0xc0000100, attempt.reg == kFs ? pointer : 0);
  WriteMsr(0xc0000101, attempt.reg == kGs ? pointer : 0);
  LoadFpu(clean);
  ForEachPart([](uint8_t* bytes, unsigned from, unsigned count) {
    const uint8_t* pattern = kPattern.bytes + from;
    asm volatile("rep movsb" : "+D"(bytes), "+S"(pattern), "+c"(count) : : "memory");
  });
  const uint64_t fill = attempt.flags & kAfter ? attempt.after : attempt.fill;
  for (unsigned i = 0; fill != 0 && i < attempt.size && i < 8; ++i)
    Byte(target + i) = static_cast<uint8_t>(fill >> (8 * i));
}

uint64_t Trial::Sum() const {
  uint64_t hash = 0;
  ForEachPart([&](const uint8_t* bytes, unsigned, unsigned count) {
    for (; count >= 8; bytes += 8, count -= 8)
      hash = (hash ^ ReadMemory<uint64_t>(reinterpret_cast<uint64_t>(bytes))) * 0x9e3779b97f4a7c15;
    for (; count > 0; ++bytes, --count) hash = (hash + *bytes + 1) * 0x9e3779b97f4a7c15;
  });
  for (unsigned i = 0; i < kScratchBytes / 8; ++i)
    hash = (hash ^ ScratchWords()[i]) * 0x9e3779b97f4a7c15;
  return hash;
}

Ending Trial::End(const Frame& frame) const {
  Ending ending;
  {
    const Slowly guard(slowly);
    ending.trap = Resume(frame);
  }
  SaveFpu(ending.fpu);
  LoadFpu(clean);
  ending.sum = Sum();
  return ending;
}

Ending Trial::Run(uint64_t count) const {
  Frame frame = UserFrame(attempt.loop);
  frame.r14 = kMarker;
  frame.r15 = count;
  frame.rflags |= rflags;
  if (kernel) frame.cs = kCode64, frame.ss = kData;
  return End(frame);
}

Ending Trial::GoOn(const Ending& ending) const {
  LoadFpu(ending.fpu);
  return End(ending.trap.frame);
}

void ExpectSame(const Ending& got, const Ending& wanted) {
  for (unsigned i = 0; i < 13; ++i)
    EXPECT_EQ(Register(got.trap.frame, i), Register(wanted.trap.frame, i));
  EXPECT_EQ(got.trap.frame.r13, wanted.trap.frame.r13);
  EXPECT_EQ(got.trap.frame.r14, wanted.trap.frame.r14);  // the flags
  EXPECT_EQ(got.trap.frame.r15, wanted.trap.frame.r15);
  EXPECT_EQ(got.trap.rip, wanted.trap.rip);
  EXPECT_EQ(got.trap.rflags & kArithmetic, wanted.trap.rflags & kArithmetic);
  EXPECT_EQ(got.sum, wanted.sum);
  unsigned differences = 0;
  // Without the pointers, which depend on the processor.
  for (unsigned i = 0; i < 416; ++i)
    if ((i < 6 || i >= 24) && got.fpu.bytes[i] != wanted.fpu.bytes[i]) ++differences;
  EXPECT_EQ(differences, 0);
}

void Trial::ExpectUntouched(const Ending& ending, uint64_t sum) const {
  const Trap& trap = ending.trap;
  EXPECT_EQ(trap.rip, attempt.fault);
  EXPECT_EQ(trap.cs, kernel ? kCode64 : kUserCode64);
  EXPECT_EQ(trap.frame.ss, kernel ? kData : kUserData);
  for (unsigned i = 0; i < 13; ++i) EXPECT_EQ(Register(trap.frame, i), state.reg[i]);
  uint64_t total = state.summands[0], flags = 0;
  asm volatile("add %2, %0\n pushf\n pop %1"
               : "+r"(total), "=r"(flags)
               : "r"(state.summands[1])
               : "cc", "memory");
  EXPECT_EQ(trap.frame.r13, total);
  EXPECT_EQ(trap.frame.r14, kMarker);
  EXPECT_EQ(trap.frame.r15, 1);
  const uint64_t resume = UnderTcg() ? trap.rflags & kRF : uint64_t{kRF};
  EXPECT_EQ(trap.rflags, (flags & kArithmetic) | 2 | resume | rflags);
  EXPECT_EQ(ending.sum, sum);
}

// Not canonical, or not aligned as it must be.
bool Trial::BadAddress(Outcome& outcome) const {
  const bool stack =
      attempt.reg == kRsp || (attempt.reg == kRbp && !(attempt.flags & kDataSegment));
  const uint64_t end = target + attempt.size - 1;
  if (!Canonical(target) || (!Canonical(end) && end != 0))
    outcome = {true, stack && !UnderTcg() ? kSS : kGP, 0, 0};
  else if (target % attempt.align != 0)
    outcome = {true, kGP, 0, 0};
  return outcome.fault;
}

bool PlaceOperand(const Attempt& attempt, Place place, uint64_t base, uint64_t before,
                  uint64_t address, uint64_t& target) {
  if (attempt.reg == kFixed) {
    const bool across = (attempt.fixed & 4095) + attempt.size > 4096;
    target = attempt.fixed;
    return place == (across ? Place::kAcross : Place::kInside);
  }
  switch (place) {
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
      target = base + 4096 - before;
      break;
    case Place::kLast:
      target = base + 8192 - before;
      break;
    case Place::kAt:
      target = address;
      break;
  }
  const bool splits = place == Place::kAcross || place == Place::kLast;
  if (splits && (before == 0 || before >= attempt.size)) return false;
  // The processor takes no such base.
  const bool base_in_msr = attempt.reg == kFs || attempt.reg == kGs;
  if (base_in_msr && !Canonical(target - attempt.bias)) return false;
  return !(attempt.flags & kLow) || target >> 32 == 0;
}

}  // namespace guest
