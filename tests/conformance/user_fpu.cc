// x87, SSE and AVX of hot code at CPL 3: over calls of the kernel, lazily switched between
// programs, with exceptions that are not masked, and what they tell of addresses.
// [SDM 1] 8.1.8, 8.5, 11.5; [SDM 3A] 2.5, 13.5
#include "lib/process.h"

using namespace guest;

namespace {

extern "C" const char sums[], rounds[], small[], divides[], divide_at[], divides_x87[];
extern "C" const char divide_x87_at[], wait_at[], images[], pointers[], pointer_at[], pending[];
extern "C" const char pending_at[], uses_x87[], uses_mmx[], uses_sse[], uses_avx[], keeps_avx[];
extern "C" const char images_avx[];

constexpr uint64_t kRam = 0x7f2000000000, kTS = 8, kEM = 4;
// Doubles.
constexpr uint64_t kOne = 0x3ff0000000000000, kTwoAndHalf = 0x4004000000000000;
constexpr uint64_t kInfinity = 0x7ff0000000000000;
constexpr uint32_t kMasked = 0x1f80, kZeMask = 0x200, kZe = 4;

AddressSpace* space;
uint64_t ram;

Frame Program(const char* code, uint64_t rsi, uint64_t rcx = 0, uint64_t rdx = 0) {
  Frame frame = UserFrame(UserLinear(code));
  frame.rdi = kRam, frame.rsi = rsi, frame.rcx = rcx, frame.rdx = rdx;
  return frame;
}
Trap RunProgram(const Frame& frame) {
  const Trap trap = Resume(frame);
  EXPECT_TRAP(trap, 0x80, 0);
  return trap;
}
uint64_t Ram(unsigned offset) {
  return ReadMemory<uint64_t>(ram + offset);
}
// An integer below 2^52 as a double.
uint64_t Double(uint64_t value) {
  unsigned exponent = 0;
  while (value >> (exponent + 1) != 0) ++exponent;
  return uint64_t{1023 + exponent} << 52 | (value << (52 - exponent) & ((1ull << 52) - 1));
}
void LoadMxcsr(uint32_t value) {
  asm volatile("ldmxcsr %0" : : "m"(value) : "memory");
}
uint32_t StoreMxcsr() {
  uint32_t value = 0;
  asm volatile("stmxcsr %0" : "=m"(value) : : "memory");
  return value;
}

void Kept() {
  Section("over calls of the kernel");
  SetHandler(0x81, [](Frame&) {});
  WriteMemory<uint64_t>(ram + 8, kOne);
  RunProgram(Program(sums, 3000));
  for (const unsigned at : {16, 24, 32}) EXPECT_EQ(Ram(at), Double(3000));
  Section("rounding");
  // To nearest, down, up, to zero.
  constexpr uint32_t kWanted[2][4] = {{2, 2, 3, 2},
                                      {0xfffffffe, 0xfffffffd, 0xfffffffe, 0xfffffffe}};
  for (const unsigned negative : {0u, 1u}) {
    WriteMemory<uint64_t>(ram + 8, kTwoAndHalf | uint64_t{negative} << 63);
    for (unsigned sse = 0; sse < 4; ++sse) {
      const unsigned x87 = (sse + 1 + negative) % 4;
      const Trap trap = RunProgram(Program(rounds, 300, kMasked | sse << 13, 0x37f | x87 << 10));
      EXPECT_EQ(trap.frame.rax, kWanted[negative][sse]);
      EXPECT_EQ(trap.frame.rbx, kWanted[negative][x87]);
    }
  }
  Section("denormals");
  WriteMemory<uint64_t>(ram + 8, 0x0010000000000000);   // the least that is normal
  WriteMemory<uint64_t>(ram + 24, 0x3fe0000000000000);  // 0.5
  EXPECT_EQ(RunProgram(Program(small, 1000, kMasked)).frame.rax, 0x0008000000000000);
  EXPECT_EQ(RunProgram(Program(small, 1000, kMasked | 0x8000)).frame.rax, 0);
  WriteMemory<uint64_t>(ram + 8, 0x0008000000000000);
  WriteMemory<uint64_t>(ram + 24, Double(4));
  EXPECT_EQ(RunProgram(Program(small, 1000, kMasked)).frame.rax, 0x0020000000000000);
  EXPECT_EQ(RunProgram(Program(small, 1000, kMasked | 0x40)).frame.rax, 0);
  LoadMxcsr(kMasked);
  SetHandler(0x81, nullptr);
}

// --- CR0.TS: the kernel switches x87 and SSE when a program asks for them. [SDM 3A] 13.4 ---
struct Task {
  AddressSpace space;
  Frame frame;
  FpuImage fpu;
  uint64_t memory;
};
constexpr unsigned kTasks = 3;
Task* tasks;
unsigned current, owner, switches;
void OnYield(Frame& frame) {
  tasks[current].frame = frame;
  current = (current + 1) % kTasks;
  frame = tasks[current].frame;
  tasks[current].space.Use();
  WriteCr0(ReadCr0() | kTS);
}
void OnNotAvailable(Frame&) {
  asm volatile("clts");
  ++switches;
  SaveFpu(tasks[owner].fpu);
  LoadFpu(tasks[current].fpu);
  owner = current;
}

void Switched() {
  Section("CR0.TS");
  static Task storage[kTasks];
  tasks = storage;
  FpuImage fresh;
  asm volatile("fninit");
  SaveFpu(fresh);
  constexpr unsigned kRounds = 600;
  for (unsigned i = 0; i < kTasks; ++i) {
    tasks[i].memory = NewFrame();
    tasks[i].space.Map(kRam, tasks[i].memory | kUserPage);
    WriteMemory<uint64_t>(tasks[i].memory + 8, Double(i + 3));
    tasks[i].frame = Program(sums, kRounds);
    tasks[i].fpu = fresh;
  }
  SetHandler(0x81, OnYield);
  SetHandler(kNM, OnNotAvailable);
  current = owner = switches = 0;
  for (unsigned i = 0; i < kTasks; ++i) {
    // All come to their end in this order.
    EXPECT_EQ(current, i);
    tasks[i].space.Use();
    WriteCr0(ReadCr0() | kTS);
    RunProgram(tasks[i].frame);
    current = i + 1;
    // The others have but one round left; each makes it alone.
    SetHandler(0x81, [](Frame&) { WriteCr0(ReadCr0() | kTS); });
  }
  asm volatile("clts");
  SetHandler(0x81, nullptr);
  SetHandler(kNM, nullptr);
  EXPECT(switches >= kTasks * kRounds);
  for (unsigned i = 0; i < kTasks; ++i)
    for (const unsigned at : {16, 24, 32})
      EXPECT_EQ(ReadMemory<uint64_t>(tasks[i].memory + at), Double(kRounds * (i + 3)));
  space->Use();

  Section("not available");
  const bool avx = Cpuid(1).ecx & 1u << 28;
  for (const char* code : {uses_x87, uses_mmx, uses_sse, uses_avx}) {
    if (code == uses_avx && !avx) continue;
    for (int i = 0; i < 3; ++i) {
      RunProgram(Program(code, 1000));
      WriteCr0(ReadCr0() | kTS);
      Trap trap = Resume(Program(code, 1000));
      asm volatile("clts");
      EXPECT_TRAP(trap, kNM, 0);
      EXPECT_EQ(trap.rip, UserLinear(code));
      if (code == uses_avx) continue;
      WriteCr0(ReadCr0() | kEM);
      trap = Resume(Program(code, 1000));
      WriteCr0(ReadCr0() & ~kEM);
      EXPECT_TRAP(trap, code == uses_x87 ? kNM : kUD, 0);
      EXPECT_EQ(trap.rip, UserLinear(code));
    }
  }
}

// --- Exceptions that are not masked. ---
unsigned raised;
void Exceptions() {
  Section("#XM");
  WriteMemory<uint64_t>(ram + 8, kOne);
  EXPECT_EQ(RunProgram(Program(divides, 3000, kMasked)).frame.rax, kInfinity);
  EXPECT_EQ(StoreMxcsr(), kMasked | kZe);
  if (UnderTcg()) return Skip("#XM and #MF (QEMU TCG has none)");
  const Trap trap = Resume(Program(divides, 3000, kMasked & ~kZeMask));
  EXPECT_TRAP(trap, kXM, 0);
  EXPECT_EQ(trap.rip, UserLinear(divide_at));
  EXPECT_EQ(trap.frame.rsi, 3000);
  EXPECT_EQ(StoreMxcsr(), (kMasked & ~kZeMask) | kZe);
  FpuImage image;
  SaveFpu(image);
  EXPECT_EQ(*reinterpret_cast<uint64_t*>(image.bytes + 160), kOne);  // XMM0 as it was
  SetHandler(kXM, [](Frame& frame) {
    EXPECT_EQ(frame.rip, UserLinear(divide_at));
    EXPECT_EQ(frame.rflags & 0x40, 0x40);
    ++raised;
    LoadMxcsr(kMasked);
  });
  raised = 0;
  EXPECT_EQ(RunProgram(Program(divides, 1000, kMasked & ~kZeMask)).frame.rbx, 1000);
  EXPECT_EQ(raised, 1000);
  SetHandler(kXM, nullptr);
  WriteCr4(ReadCr4() & ~0x400ull);  // without OSXMMEXCPT
  EXPECT_TRAP(Resume(Program(divides, 10, kMasked & ~kZeMask)), kUD, 0);
  WriteCr4(ReadCr4() | 0x400);
  LoadMxcsr(kMasked);

  Section("#MF");
  EXPECT_EQ(RunProgram(Program(divides_x87, 3000, 0x37f)).frame.rbx, 3000);
  SetHandler(kMF, [](Frame& frame) {
    EXPECT_EQ(frame.rip, UserLinear(wait_at));
    EXPECT_EQ(frame.rflags & 0x40, 0x40);
    EXPECT_EQ(frame.rdx & 0x84, 0x84);  // FSW: ES, ZE
    ++raised;
    asm volatile("fnclex");
  });
  raised = 0;
  EXPECT_EQ(RunProgram(Program(divides_x87, 1000, 0x37b)).frame.rbx, 1000);
  EXPECT_EQ(raised, 1000);
  SetHandler(kMF, nullptr);
  asm volatile("fninit");
}

// --- What programs see of the state. ---
void Seen() {
  Section("FXSAVE and FXRSTOR");
  WriteMemory<uint64_t>(ram + 8, kTwoAndHalf);
  EXPECT_EQ(RunProgram(Program(images, 2000)).frame.rax, 2000);
  Section("pointers");
  for (const unsigned count : {1, 3, 2000}) {
    for (unsigned i = 64; i < 64 + 512; i += 8) WriteMemory<uint64_t>(ram + i, 0);
    RunProgram(Program(pointers, count));
    const uint64_t fip = Ram(64 + 8), fdp = Ram(64 + 16);
    if (fip != 0) EXPECT_EQ(fip, UserLinear(pointer_at));
    if (fdp != 0) EXPECT_EQ(fdp, kRam + 8);
  }
  if (UnderTcg()) return Skip("pointers (QEMU TCG has none)");
  Section("pointers of a pending exception");
  WriteMemory<uint64_t>(ram + 24, 0);
  for (const unsigned count : {1, 3, 2000}) {
    RunProgram(Program(pending, count));
    EXPECT_EQ(ReadMemory<uint16_t>(ram + 64 + 2) & 0x84, 0x84);
    EXPECT_EQ(Ram(64 + 8), UserLinear(pending_at));
    EXPECT_EQ(Ram(64 + 16), kRam + 24);
  }
  asm volatile("fninit");
}

void Avx() {
  Section("AVX");
  if (!(Cpuid(1).ecx & 1u << 26) || !(Cpuid(1).ecx & 1u << 28)) return Skip("AVX");
  RunProgram(Program(uses_avx, 1000));
  asm volatile("xsetbv" : : "c"(0), "a"(3), "d"(0));
  EXPECT_TRAP(Resume(Program(uses_avx, 10)), kUD, 0);
  WriteCr4(ReadCr4() & ~(1ull << 18));
  EXPECT_TRAP(Resume(Program(uses_avx, 10)), kUD, 0);
  EnableAvx();
  SetHandler(0x81, [](Frame&) {});
  WriteMemory<uint64_t>(ram + 8, Double(5));
  RunProgram(Program(keeps_avx, 2000));
  for (unsigned at = 16; at < 80; at += 8) EXPECT_EQ(Ram(at), Double(10000));
  Section("XSAVE and XRSTOR");
  RunProgram(Program(images_avx, 2000));
  SetHandler(0x81, nullptr);
}

}  // namespace

void GuestMain() {
  StartProcesses();
  SetGateDpl(0x81, 3);
  static AddressSpace process;
  space = &process;
  ram = NewFrame();
  process.Map(kRam, ram | kUserPage);
  process.Use();
  asm volatile("fninit");
  LoadMxcsr(kMasked);
  Avx();
  Kept();
  Switched();
  Exceptions();
  Seen();
}
