// Control flow: recursion, calls through pointers, and an interpreter of bytecode.

#include <array>
#include <vector>

#include "bench_rows.h"

namespace {

[[gnu::noinline, gnu::optimize("no-optimize-sibling-calls", "no-inline")]] uint64_t Fib(
    uint64_t n) {
  return n < 2 ? n : Fib(n - 1) + Fib(n - 2);
}

uint64_t RunFib(uint64_t count) {
  uint64_t checksum = 0;
  while (count-- > 0) checksum = Mix(checksum, Fib(26));
  return checksum;
}

using Step = uint64_t (*)(uint64_t);

template <uint64_t kNumber>
[[gnu::noinline]] uint64_t Apply(uint64_t value) {
  if constexpr (kNumber % 4 == 0) return value + kNumber;
  if constexpr (kNumber % 4 == 1) return value ^ value >> (kNumber + 3);
  if constexpr (kNumber % 4 == 2) return value * (2 * kNumber + 1);
  return (value << 7 | value >> 57) - kNumber;
}

constexpr std::array<Step, 16> kSteps = {
    Apply<0>, Apply<1>, Apply<2>,  Apply<3>,  Apply<4>,  Apply<5>,  Apply<6>,  Apply<7>,
    Apply<8>, Apply<9>, Apply<10>, Apply<11>, Apply<12>, Apply<13>, Apply<14>, Apply<15>};
std::vector<uint8_t> plan;

void PreparePlan(uint64_t) {
  Random random(6);
  plan.resize(1024);
  for (uint8_t& step : plan) step = static_cast<uint8_t>(random.Next() % kSteps.size());
}

uint64_t RunIndirect(uint64_t count) {
  uint64_t value = 1;
  while (count-- > 0) {
    for (const uint8_t step : plan) value = kSteps[step](value);
  }
  return value;
}

// A register machine that counts primes below its limit by a sieve; dispatch by one switch.
enum class Op : uint8_t { kSet, kMove, kAdd, kLoad, kStore, kJumpLess, kJumpZero, kJump, kEnd };

struct Instruction {
  Op op;
  uint8_t a, b;
  int16_t value;
};

constexpr int16_t kSieve = 8192;
constexpr Instruction kProgram[] = {
    // r0: number, r1: limit, r2: primes so far, r3: multiple, r4: is it struck out, r5: 1, r6: 0
    {Op::kSet, 0, 0, 0},       {Op::kSet, 1, 0, kSieve},
    {Op::kSet, 2, 0, 0},       {Op::kSet, 5, 0, 1},
    {Op::kSet, 6, 0, 0},       {Op::kStore, 0, 6, 0},  // 5: clear the sieve
    {Op::kAdd, 0, 5, 0},       {Op::kJumpLess, 0, 1, 5},
    {Op::kSet, 0, 0, 2},       {Op::kLoad, 4, 0, 0},  // 9: the next number
    {Op::kJumpZero, 4, 0, 12}, {Op::kJump, 0, 0, 18},
    {Op::kAdd, 2, 5, 0},  // 12: it is a prime
    {Op::kMove, 3, 0, 0},      {Op::kJump, 0, 0, 16},
    {Op::kStore, 3, 5, 0},  // 15: strike out its multiples
    {Op::kAdd, 3, 0, 0},       {Op::kJumpLess, 3, 1, 15},
    {Op::kAdd, 0, 5, 0},  // 18
    {Op::kJumpLess, 0, 1, 9},  {Op::kEnd, 0, 0, 0},
};

std::vector<uint8_t> sieve(kSieve + 1);

[[gnu::noinline]] uint64_t Interpret(const Instruction* program) {
  std::array<uint64_t, 8> r{};
  for (const Instruction* next = program;;) {
    const Instruction& i = *next++;
    switch (i.op) {
      case Op::kSet:
        r[i.a] = static_cast<uint64_t>(i.value);
        break;
      case Op::kMove:
        r[i.a] = r[i.b];
        break;
      case Op::kAdd:
        r[i.a] += r[i.b];
        break;
      case Op::kLoad:
        r[i.a] = sieve[r[i.b]];
        break;
      case Op::kStore:
        sieve[r[i.a]] = static_cast<uint8_t>(r[i.b]);
        break;
      case Op::kJumpLess:
        next = r[i.a] < r[i.b] ? program + i.value : next;
        break;
      case Op::kJumpZero:
        next = r[i.a] == 0 ? program + i.value : next;
        break;
      case Op::kJump:
        next = program + i.value;
        break;
      case Op::kEnd:
        return r[2];
    }
  }
}

uint64_t RunBytecode(uint64_t count) {
  uint64_t checksum = 0;
  while (count-- > 0) checksum = Mix(checksum, Interpret(kProgram));
  return checksum;
}

constexpr Row kRows[] = {
    {"fib", nullptr, RunFib, 225},
    {"indirect", PreparePlan, RunIndirect, 60'000},
    {"bytecode", nullptr, RunBytecode, 750},
};

}  // namespace

int main(int argc, char** argv) {
  return RunRows(argc, argv, kRows);
}
