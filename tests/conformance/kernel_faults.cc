// Every kind of memory access of hot code at CPL 0, at every place where it may not be made: not
// present, write-protected or not by CR0.WP, a user's page with and without SMAP and EFLAGS.AC,
// over the end of a page at each byte; and sequences of accesses, strings, and the ways in and out
// of the kernel. Each fault is exact, each restart too, and all of it is the same when an
// instruction breakpoint that nothing meets keeps the processor from running code as fast as it
// can. [SDM 3A] 4.6, 6.5, 6.15
#include "attempts.h"

using namespace guest;

namespace {

constexpr uint64_t kAC = 1 << 18, kWP = 1 << 16, kSmep = 1 << 20, kSmap = 1 << 21;
constexpr uint64_t kOk = kPresent | kWrite, kReadOnly = kPresent, kUsers = kUserPage;

bool has_smap;

// What of the processor's state decides what CPL 0 may do.
struct Rule {
  bool protect;  // CR0.WP
  uint64_t rflags;
};
constexpr Rule kRules[] = {{true, 0}, {false, 0}, {true, kAC}, {false, kAC}};
constexpr unsigned kRuleCount = sizeof kRules / sizeof *kRules;

void Apply(const Rule& rule) {
  WriteCr0((ReadCr0() & ~kWP) | (rule.protect ? kWP : 0));
}

// The error code of an access to a page with `flags`; negative: it may be made.
int64_t Refused(uint64_t flags, const Rule& rule, bool writes) {
  const int64_t write = writes ? 2 : 0;
  if (!(flags & kPresent)) return write;
  if ((flags & kUser) && has_smap && !(rule.rflags & kAC)) return write | 1;
  return writes && !(flags & kWrite) && rule.protect ? write | 1 : -1;
}

struct Pair {
  const char* name;
  uint64_t flags[2];  // of two pages that follow each other
};
constexpr Pair kPairs[] = {{"into absent", {kOk, 0}},
                           {"from absent", {0, kOk}},
                           {"into read-only", {kOk, kReadOnly}},
                           {"from read-only", {kReadOnly, kOk}},
                           {"into a user's", {kOk, kUsers}},
                           {"from a user's", {kUsers, kOk}},
                           {"from a user's into absent", {kUsers, 0}},
                           {"from read-only into a user's", {kReadOnly, kUsers}},
                           {"from absent into read-only", {0, kReadOnly}},
                           {"both there", {kOk, kOk}}};
constexpr unsigned kPairCount = sizeof kPairs / sizeof *kPairs;

// ---- One access

// Usual for a user, at the bottom, over 2 GiB, at the top of the lower half, in the upper one.
constexpr uint64_t kTop = 0x7fffffffe000, kUpper = 0xffffc90000123000;
constexpr uint64_t kBases[] = {0x7f3a12345000, 0x1000, 0x7ffff000, kTop, kUpper};
constexpr unsigned kLowBases = 1, kLowBaseCount = 2, kBaseCount = sizeof kBases / sizeof *kBases;
constexpr unsigned kHot = 64;

void TryOne(Trial trial, const Pair& pair, const Rule& rule, bool invalidate) {
  NameSection(trial.attempt, pair.name);
  trial.kernel = true;
  trial.rflags = rule.rflags;
  trial.Pages(kOk, kOk);
  trial.Forget();
  trial.slowly = true;
  trial.Prepare();
  const Ending reference = trial.Run(1);
  Apply(rule);
  const Outcome expected = trial.Expected([&](uint64_t at, bool writes) {
    return Refused(pair.flags[at >= trial.base + 4096], rule, writes);
  });
  trial.Pages(pair.flags[0], pair.flags[1]);
  trial.Forget();
  const auto run = [&] {
    trial.Prepare();
    const uint64_t sum = trial.Sum();
    const Ending ending = trial.Run(1);
    if (!expected.fault) {
      EXPECT_TRAP(ending.trap, 0x80, 0);
      ExpectSame(ending, reference);
      return ending;
    }
    EXPECT_TRAP(ending.trap, expected.vector, expected.error);
    if (expected.vector == kPF) EXPECT_EQ(ending.trap.cr2, expected.cr2);
    trial.ExpectUntouched(ending, sum);
    return ending;
  };
  const Ending slow = run();
  trial.slowly = false;
  const Ending ending = run();
  ExpectSame(ending, slow);
  Apply(kRules[0]);
  if (!expected.fault || expected.vector != kPF) return;
  // The page comes, and the instruction is made as if nothing had been.
  trial.Pages(kOk, kOk);
  if (invalidate || (expected.error & 1)) trial.Forget();
  const Ending after = trial.GoOn(ending);
  EXPECT_TRAP(after.trap, 0x80, 0);
  ExpectSame(after, reference);
}

void TryEverywhere(const Attempt& attempt, unsigned number) {
  unsigned turn = number;
  bool hot = false;
  const auto at = [&](Place place, uint64_t before) {
    uint64_t base = attempt.flags & kLow ? kBases[kLowBases + ++turn % kLowBaseCount]
                                         : kBases[++turn % kBaseCount];
    if (place == Place::kLast) base = kTop;
    if (attempt.reg == kFixed) base = UserLinear(attempt_near);
    uint64_t target = 0;
    if (!PlaceOperand(attempt, place, base, before, 0, target)) return;
    const Trial trial{attempt, target, base, turn % Trial::kSummands};
    if (!hot) {
      Trial warm = trial;
      warm.kernel = hot = true;
      warm.Pages(kOk, kOk);
      warm.Forget();
      warm.Prepare();
      EXPECT_TRAP(warm.Run(kHot).trap, 0x80, 0);
    }
    for (const Pair& pair : kPairs) {
      const auto index = static_cast<uint64_t>(&pair - kPairs);
      if (place == Place::kLast && index != kPairCount - 1) continue;
      if (place == Place::kAcross && (index + before + before / 2) % 2 != 0) continue;
      ++turn;
      TryOne(trial, pair, kRules[turn % kRuleCount], turn & 8);
    }
    trial.Pages(0, 0);
    trial.Forget();
  };
  at(Place::kInside, 0);
  at(Place::kInside, 0);
  at(Place::kEnd, 0);
  at(Place::kStart, 0);
  at(Place::kLast, attempt.size / 2u);
  const unsigned step = attempt.size <= 32 ? 1 : attempt.size / 4u;
  for (unsigned before = 1; before < attempt.size; before += step) at(Place::kAcross, before);
}

// ---- Sequences

struct Sequence {  // as kernel_sequences.S lays them out
  uint64_t code;
  const char* name;
  uint64_t flags;
};
enum SequenceFlags : uint64_t { kFrame = 1, kNeedsSmap = 2, kDiffersUnderTcg = 4 };
extern "C" const Sequence sequences[], sequences_end[];
extern "C" const char returns_after[];

// Two pages that follow each other, and what is around their border.
struct Border {
  static constexpr uint64_t kAround = 224;
  uint64_t linear;
  uint64_t frames[2];

  void Pages(AddressSpace& space, const uint64_t (&flags)[2]) const {
    for (unsigned i = 0; i < 2; ++i) {
      space.Map(linear + 4096 * i, flags[i] != 0 ? frames[i] | flags[i] : 0);
      InvalidatePage(linear + 4096 * i);
    }
  }
  uint64_t end() const { return linear + 4096; }
  // Eight bytes, `offset` from the border.
  volatile uint64_t& Word(int64_t offset) const {
    const uint64_t at = offset < 0 ? frames[0] + 4096 : frames[1];
    return *reinterpret_cast<volatile uint64_t*>(at + static_cast<uint64_t>(offset));
  }
  void Fill() const {
    for (int64_t at = -static_cast<int64_t>(kAround); at < static_cast<int64_t>(kAround); at += 8)
      Word(at) = static_cast<uint64_t>(at + 0x1234567) * 0x9e3779b97f4a7c15;
  }
  uint64_t Sum() const {
    uint64_t hash = 0;
    for (int64_t at = -static_cast<int64_t>(kAround); at < static_cast<int64_t>(kAround); at += 8)
      hash = (hash + Word(at) + 1) * 0x9e3779b97f4a7c15;
    return hash;
  }
  void Put(uint64_t at, uint64_t value) const {
    for (unsigned i = 0; i < 8; ++i, ++at) {
      const uint64_t frame = frames[at >= end()];
      WriteMemory<uint8_t>(frame + (at & 4095), static_cast<uint8_t>(value >> (8 * i)));
    }
  }
};
AddressSpace* space;
Border target, source;
FpuImage clean;

Ending Go(const Frame& frame, const FpuImage& fpu, bool slowly = false) {
  Ending ending;
  LoadFpu(fpu);
  {
    const Slowly guard(slowly);
    ending.trap = Resume(frame);
  }
  SaveFpu(ending.fpu);
  LoadFpu(clean);
  ending.sum = target.Sum() + 3 * source.Sum();
  return ending;
}

Ending Start(const Sequence& sequence, int64_t where, const Rule& rule, bool slowly) {
  target.Fill();
  source.Fill();
  Frame frame = UserFrame(sequence.code);
  frame.cs = kCode64, frame.ss = kData;
  frame.rflags |= rule.rflags;
  frame.rdi = target.end() + static_cast<uint64_t>(where);
  frame.rsi = source.end() + static_cast<uint64_t>(where * 3 % 64);
  frame.rsp = 0x7e57ab1e57acc000;
  frame.rax = 0x1122334455667788, frame.rbx = 0x2233445566778899, frame.rdx = 0x33;
  frame.rbp = 0x445566778899aabb, frame.r8 = 0x8000000000000123, frame.r9 = 0xfffffffffffffff5;
  frame.r10 = 0x66778899aabbccdd, frame.r11 = 0x778899aabbccddee;
  if (sequence.flags & kFrame) {
    const uint64_t words[] = {reinterpret_cast<uint64_t>(returns_after), kCode64, 0x8d7,
                              frame.rdi - 0x333, kData};
    for (unsigned i = 0; i < 5; ++i) target.Put(frame.rdi + 8 * i, words[i]);
  }
  return Go(frame, clean, slowly);
}

// Alike to the last bit, but for the pointers of x87.
void ExpectAlike(const Ending& got, const Ending& wanted) {
  EXPECT_TRAP(got.trap, wanted.trap.vector, wanted.trap.error);
  if (wanted.trap.vector == kPF) EXPECT_EQ(got.trap.cr2, wanted.trap.cr2);
  EXPECT_EQ(got.trap.cs, wanted.trap.cs);
  EXPECT_EQ(got.trap.rflags, wanted.trap.rflags);
  EXPECT_EQ(got.trap.frame.ss, wanted.trap.frame.ss);
  ExpectSame(got, wanted);
}

void SetPages(const Pair& first, const Pair& second) {
  target.Pages(*space, first.flags);
  source.Pages(*space, second.flags);
}

void TrySequence(const Sequence& sequence) {
  Section(sequence.name);
  constexpr unsigned kPairsAtOnce = 4;
  unsigned turn = 0;
  for (int64_t where = -112; where <= 72; ++where) {
    SetPages(kPairs[kPairCount - 1], kPairs[kPairCount - 1]);
    const Ending whole = Start(sequence, where, kRules[0], true);
    for (unsigned i = 0; i < kPairsAtOnce; ++i) {
      const Rule& rule = kRules[++turn % kRuleCount];
      // The source may as well be what is missing.
      const Pair* pairs[] = {&kPairs[turn * 7 % kPairCount],
                             &kPairs[turn % 3 == 0 ? turn / 3 % kPairCount : kPairCount - 1]};
      if (turn % 5 == 0) pairs[1] = pairs[0], pairs[0] = &kPairs[kPairCount - 1];
      Apply(rule);
      SetPages(*pairs[0], *pairs[1]);
      const Ending slow = Start(sequence, where, rule, true);
      const Ending ending = Start(sequence, where, rule, false);
      ExpectAlike(ending, slow);
      Apply(kRules[0]);
      if (ending.trap.vector != kPF) continue;
      // The pages come.
      SetPages(kPairs[kPairCount - 1], kPairs[kPairCount - 1]);
      const Ending after = Go(ending.trap.frame, ending.fpu);
      EXPECT_TRAP(after.trap, whole.trap.vector, whole.trap.error);
      ExpectSame(after, whole);
    }
  }
}

}  // namespace

void GuestMain() {
  StartProcesses();
  for (const uint8_t vector : {kDE, kDB, kUD, kSS, kGP, kPF, kMF, kXM}) SetGateStack(vector, 1);
  SetGateStack(0x80, 1);
  AddressSpace process;
  space = &process;
  // The programs are the kernel's here.
  extern const char user_begin[], user_end[];
  for (const char* at = user_begin; at < user_end; at += 4096)
    process.Map(UserLinear(at), reinterpret_cast<uint64_t>(at) | kPresent);
  PrepareAttempts(process, kOk);
  const uint32_t features = Cpuid(0).eax >= 7 ? Cpuid(7).ebx : 0;
  has_smap = features & kSmap >> 1;
  if (!has_smap) Skip("SMAP");
  WriteCr4(ReadCr4() | (has_smap ? kSmap : 0) | (features & 1 << 7 ? kSmep : 0));
  process.Use();
  unsigned number = 0;
  for (const Attempt* attempt = attempts; attempt != attempts_end; ++attempt)
    if (MayTry(*attempt)) TryEverywhere(*attempt, number++);
  SaveFpu(clean);
  for (Border* border : {&target, &source}) {
    border->frames[1] = NewFrame();
    border->frames[0] = NewFrame();
  }
  target.linear = kUpper;
  source.linear = 0x7ffff000;
  for (const Sequence* sequence = sequences; sequence != sequences_end; ++sequence) {
    const bool possible = has_smap || !(sequence->flags & kNeedsSmap);
    if (possible && !(UnderTcg() && (sequence->flags & kDiffersUnderTcg))) TrySequence(*sequence);
  }
}
