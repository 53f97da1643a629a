// Memory accesses of every kind, to be made where they may not be: attempts.S has the instructions,
// this what a guest needs to make one of them at a place of its choice, at CPL 3 or 0, and to tell
// what must come of it. Addresses are those of a program (lib/process.h) at either level.
#pragma once

#include "lib/process.h"

namespace guest {

struct Attempt {  // as attempts.S lays them out
  uint64_t loop, fault, after;
  const char* name;
  uint64_t bias, fill, fixed;
  uint16_t size;
  uint8_t access, reg, align, need, flags, unused;
};
static_assert(sizeof(Attempt) == 64);
enum AttemptAccess : uint8_t { kReads = 1, kWrites = 2 };
enum AttemptBase : uint8_t { kRdi = 7, kFs = 16, kGs = 17, kFixed = 18, kRsp = 4, kRbp = 5 };
enum AttemptFlags : uint8_t {
  kAfter = 1,
  kLow = 2,
  kRaxAfter = 4,
  kRdiAfter = 8,
  kDataSegment = 16,
  kTcgDiffers = 32
};
extern "C" const Attempt attempts[], attempts_end[];
extern "C" char attempt_state[], attempt_near[];

// In `process`, whose pages of data get `page_flags`.
void PrepareAttempts(AddressSpace& process, uint64_t page_flags);
// Whether the processor has the instruction, and what runs us does it rightly.
bool MayTry(const Attempt& attempt);
// "INSTRUCTION: SITUATION"
void NameSection(const Attempt& attempt, const char* situation);

// How an attempt ended: the exception or INT 0x80, x87 and SSE, and a hash of all memory near the
// operand and of what the other registers point to.
struct Ending {
  Trap trap;
  FpuImage fpu;
  uint64_t sum = 0;
};
// Both after the loop, or both at the same fault.
void ExpectSame(const Ending& got, const Ending& wanted);

enum class Place : uint8_t { kInside, kEnd, kAcross, kStart, kLast, kAt };

// The exception that must come.
struct Outcome {
  bool fault = false;
  uint8_t vector = kPF;
  uint64_t error = 0, cr2 = 0;
};

// One attempt at one place.
struct Trial {
  const Attempt& attempt;
  uint64_t target, base;  // of the operand; of the first of two pages around it
  unsigned summands = 0;  // 0 to 3: which flags are to live
  bool kernel = false;    // at CPL 0
  uint64_t rflags = 0;    // set besides
  bool slowly = false;    // instruction by instruction
  static constexpr unsigned kSummands = 4;

  // What the two pages may do; 0: absent. Without an invalidation.
  void Pages(uint64_t first, uint64_t second) const;
  void Forget() const;
  // Registers and what they point to, as before each run.
  void Prepare() const;
  uint64_t Sum() const;
  // `count` rounds of the loop.
  Ending Run(uint64_t count) const;
  // From where `ending` was on.
  Ending GoOn(const Ending& ending) const;
  // The state before the instruction, and `sum` still that of memory.
  void ExpectUntouched(const Ending& ending, uint64_t sum) const;
  // `refuses(address, write)`: the error code of a page fault, negative: none.
  template <class Refuses>
  Outcome Expected(Refuses refuses) const;

 private:
  uint8_t& Byte(uint64_t linear) const;
  template <class Visit>
  void ForEachPart(Visit visit) const;
  Ending End(const Frame& frame) const;
  bool BadAddress(Outcome& outcome) const;
};

// Where the operand is: of one that is across the end of a page `before` bytes are ahead of it,
// unless its address is fixed; kAt is at `address`. False: it can't be there.
bool PlaceOperand(const Attempt& attempt, Place place, uint64_t base, uint64_t before,
                  uint64_t address, uint64_t& target);

template <class Refuses>
Outcome Trial::Expected(Refuses refuses) const {
  Outcome outcome;
  if (BadAddress(outcome)) return outcome;
  // QEMU's translator reads first what it changes.
  const bool reads_first = UnderTcg() && attempt.access == (kReads | kWrites);
  for (const bool writes :
       {!reads_first && (attempt.access & kWrites), bool(attempt.access & kWrites)}) {
    for (uint64_t at = target; at != target + attempt.size; ++at) {
      const int64_t error = refuses(at, writes);
      if (error >= 0) return {true, kPF, static_cast<uint64_t>(error), at};
    }
  }
  return outcome;
}

}  // namespace guest
