// Instructions that some KVMs can't execute, so that another engine has to: on RAM, on addresses
// where there is none, and those whose exception must be delivered.
#include "lib/guest.h"

using namespace guest;

namespace {

// In the PCI hole, where nobody answers: reads give ones, writes vanish.
constexpr uint64_t kNowhere = 0xfeb00000;

void CompareExchange16() {
  Section("CMPXCHG16B");  // [SDM 2A] CMPXCHG8B/CMPXCHG16B
  if (!(Cpuid(1).ecx & (1u << 13))) return Skip("CMPXCHG16B");
  alignas(16) static uint64_t memory[2];
  for (unsigned round = 0; round < 200; ++round) {
    memory[0] = round;
    memory[1] = ~uint64_t{round};
    uint64_t low = round, high = ~uint64_t{round};
    bool equal;
    asm volatile("lock cmpxchg16b %0"
                 : "+m"(memory), "+a"(low), "+d"(high), "=@ccz"(equal)
                 : "b"(uint64_t{round} * 3), "c"(uint64_t{round} * 5)
                 : "memory");
    EXPECT(equal);
    EXPECT_EQ(memory[0], round * 3);
    EXPECT_EQ(memory[1], round * 5);
    low = high = 7;
    asm volatile("lock cmpxchg16b %0"
                 : "+m"(memory), "+a"(low), "+d"(high), "=@ccz"(equal)
                 : "b"(uint64_t{1}), "c"(uint64_t{2})
                 : "memory");
    EXPECT(!equal);
    EXPECT_EQ(low, round * 3);
    EXPECT_EQ(high, round * 5);
  }
}

void Breakpoint() {
  Section("INT3");  // [SDM 3A] 6.15, interrupt 3: a trap
  const Trap trap = Try([] { asm volatile("int3"); });
  EXPECT(trap.taken);
  EXPECT_EQ(trap.vector, kBP);
}

void RestoreExtendedState() {
  Section("XRSTOR");  // [SDM 1] 13.8
  if (!(Cpuid(1).ecx & (1u << 26))) return Skip("XSAVE");
  WriteCr4(ReadCr4() | 1 << 18);
  asm volatile("xsetbv" : : "a"(3), "d"(0), "c"(0));  // XCR0: x87 and SSE
  alignas(64) static uint8_t area[4096];
  uint64_t low = 0;
  asm volatile("movq %0, %%xmm3" : : "r"(uint64_t{0x1234567890abcdef}));
  asm volatile("xsave %0" : "=m"(area) : "a"(3), "d"(0) : "memory");
  asm volatile("pxor %%xmm3, %%xmm3" : :);
  asm volatile("xrstor %0" : : "m"(area), "a"(3), "d"(0) : "memory");
  asm volatile("movq %%xmm3, %0" : "=r"(low));
  EXPECT_EQ(low, 0x1234567890abcdef);
  // A reserved bit of MXCSR: #GP(0), delivered by whoever executes it.
  area[24 + 3] = 0x80;
  EXPECT_TRAP(Try([] {
                asm volatile("xrstor %0" : : "m"(area), "a"(3), "d"(0) : "memory");
              }),
              kGP, 0);
}

void VectorAccess() {
  Section("vectors to and from no memory");
  uint64_t halves[2] = {};
  asm volatile(
      "pxor %%xmm0, %%xmm0\n movups %%xmm0, (%0)\n movups (%0), %%xmm1\n"
      "movups %%xmm1, (%1)"
      :
      : "r"(kNowhere), "r"(halves)
      : "memory");
  EXPECT_EQ(halves[0], ~uint64_t{0});
  EXPECT_EQ(halves[1], ~uint64_t{0});
}

}  // namespace

void GuestMain() {
  WriteCr4(ReadCr4() | 0x600);  // OSFXSR, OSXMMEXCPT
  CompareExchange16();
  Breakpoint();
  RestoreExtendedState();
  VectorAccess();
}
