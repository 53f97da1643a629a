// Programs at CPL 3 in address spaces of their own, as a kernel runs them: tables of four levels,
// the kernel where it was linked and, all of memory, in the upper half; whole register states in
// and out.
#pragma once

#include "guest.h"

namespace guest {

// A page of zeroes behind the guest's image; none is ever given back.
uint64_t NewFrame();

// USER_CODE stands this much above where it was linked.
inline constexpr uint64_t kUserShift = 0x555555000000;
inline uint64_t UserLinear(const char* label) {
  return reinterpret_cast<uint64_t>(label) + kUserShift;
}

// Where CPL 0 finds all that is mapped at the bottom, in every address space.
inline constexpr uint64_t kKernelHalf = 0xffff800000000000;

// Linear 0 to 1 MiB and whatever is not below 32 MiB or between 3 and 4 GiB is the program's.
class AddressSpace {
 public:
  AddressSpace();  // with USER_CODE, not writable
  uint64_t root() const { return root_; }
  void Use(uint64_t pcid = 0) const { WriteCr3(root_ | pcid); }
  // The entry of a 4 KiB page, with the tables above it, which allow everything.
  volatile uint64_t& Pte(uint64_t linear);
  volatile uint64_t& Pde(uint64_t linear);
  // Without an invalidation.
  void Map(uint64_t linear, uint64_t physical_and_flags) { Pte(linear) = physical_and_flags; }

 private:
  uint64_t root_;
};

// Everything that a user's page may have.
inline constexpr uint64_t kUserPage = kPresent | kWrite | kUser;

// Must be called first: interrupts enter by the kernel half, which each address space has, and
// programs have AVX where the processor has it.
void StartProcesses();
// The latter, for another processor.
void EnableAvx();

// A state at CPL 3 with interrupts off.
Frame UserFrame(uint64_t rip, uint64_t rsp = 0);
// Goes on from `state`: with its stack, the present one is left.
[[noreturn]] void Enter(const Frame& state);
// Runs from `state` to the exception or INT 0x80 that no handler takes.
Trap Resume(const Frame& state);

// While it lives, no code runs but instruction by instruction: a breakpoint that nothing meets sees
// to that.
struct Slowly {
  explicit Slowly(bool really);
  ~Slowly();
};

// x87 and SSE as the program left them: the kernel has no use for them.
struct alignas(16) FpuImage {
  uint8_t bytes[512] = {};
};
void SaveFpu(FpuImage& image);
void LoadFpu(const FpuImage& image);

}  // namespace guest
