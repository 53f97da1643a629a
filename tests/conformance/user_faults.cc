// Every kind of memory access of hot code at CPL 3, at every place where it may not be made: the
// fault has the exact address, error code and registers, nothing was written, and with the page
// there the instruction does what it does at CPL 0. [SDM 3A] 4.7, 6.5, 6.15
#include "attempts.h"

using namespace guest;

namespace {

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

constexpr unsigned kHot = 3000;

Outcome Expected(const Trial& trial, const Situation& situation) {
  return trial.Expected([&](uint64_t at, bool writes) -> int64_t {
    uint64_t flags = 0;
    if (situation.place < Place::kAt) flags = situation.flags[at >= trial.base + 4096];
    if (situation.place == Place::kAt && (at & 0x7fffffffffff) >> 20 == 1) flags = kSupervisor;
    if (situation.place == Place::kAt && at >> 20 == 0xfee) flags = kSupervisor;
    if ((flags & kPresent) && (flags & kUser) && (!writes || (flags & kWrite))) return -1;
    return static_cast<int64_t>((flags & kPresent) | (writes ? 2u : 0) | 4);
  });
}

void TryAt(const Trial& trial, const Situation& situation, bool invalidate) {
  NameSection(trial.attempt, situation.name);
  const Outcome expected = Expected(trial, situation);
  const bool repairable = situation.place < Place::kLast && expected.vector == kPF;
  trial.Pages(kUserPage, kUserPage);
  trial.Forget();
  Ending reference;
  if (repairable) {
    trial.Prepare();
    Trial kernel = trial;
    kernel.kernel = true;
    reference = kernel.Run(1);
    EXPECT_TRAP(reference.trap, 0x80, 0);
  }
  trial.Prepare();
  trial.Pages(situation.flags[0], situation.flags[1]);
  trial.Forget();
  const uint64_t sum_before = trial.Sum();
  Ending ending = trial.Run(1);
  if (expected.fault) {
    EXPECT_TRAP(ending.trap, expected.vector, expected.error);
    if (expected.vector == kPF) EXPECT_EQ(ending.trap.cr2, expected.cr2);
    trial.ExpectUntouched(ending, sum_before);
    if (!repairable || !ending.trap.taken) return;
    // The page comes, and the instruction is made as if nothing had been. What is not present is
    // in no TLB; INVLPG of it is needless. [SDM 3A] 4.10.4.3
    trial.Pages(kUserPage, kUserPage);
    if (invalidate || (expected.error & 1)) trial.Forget();
    ending = trial.GoOn(ending);
  }
  EXPECT_TRAP(ending.trap, 0x80, 0);
  ExpectSame(ending, reference);
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
    const uint64_t half = attempt.size / 2u;
    if (!PlaceOperand(attempt, situation.place, base, half, situation.address, target)) continue;
    if (&situation == kSituations) {
      NameSection(attempt, "hot");
      const Trial hot{attempt, target, base};
      hot.Pages(kUserPage, kUserPage);
      hot.Forget();
      hot.Prepare();
      EXPECT_TRAP(hot.Run(kHot).trap, 0x80, 0);
    }
    const Trial trial{attempt, target, base, turn % Trial::kSummands};
    TryAt(trial, situation, turn & 4);
    trial.Pages(0, 0);
    trial.Forget();
  }
}

}  // namespace

void GuestMain() {
  StartProcesses();
  SetGateStack(0x80, 1);  // a reference run is at CPL 0 with any RSP
  AddressSpace process;
  PrepareAttempts(process, kUserPage);
  process.Use();
  unsigned number = 0;
  for (const Attempt* attempt = attempts; attempt != attempts_end; ++attempt)
    if (MayTry(*attempt)) TryEverywhere(*attempt, number++);
}
