// What ends or interrupts hot code at CPL 3 other than its memory: timers, system calls, single
// steps, breakpoints, instructions that are the kernel's, flags; and devices that it may touch.
// [SDM 3A] 5.9, 6; [SDM 3B] 17.2, 17.3
#include "lib/apic.h"
#include "lib/process.h"

using namespace guest;

namespace {

extern "C" const char spin_registers[], spin_memory[], spin_indirect[], spin_calls[], spin_still[];
extern "C" const char spin_stores[], system_calls[], steps[], steps_end[], stops[], stops_at[],
    popf_steps[], watched[], watched_1[];
extern "C" const char watched_2[], flags[], returns[], queries[], misaligned[], misaligned_at[];
extern "C" const char devices[], task_priority[], own_base[], syscall_entry[];
extern "C" const char* const step_order[10];
struct Forbidden {
  const char *at, *next;
  uint64_t vector, error;
  const char* name;
};
extern "C" const Forbidden forbidden_begin[], forbidden_end[];
extern "C" volatile uint64_t syscall_count;

constexpr uint64_t kRam = 0x7f2000000000, kStackPage = 0x7f2000010000, kOther = 0x7f2000020000;
constexpr uint64_t kDevicePage = 0x7f2000030000, kIoapicPage = 0x7f2000031000;
constexpr uint64_t kIF = 0x200, kTF = 0x100, kRF = 0x10000;

AddressSpace* space;
uint64_t ram, other_ram;

Frame Program(const char* code, uint64_t rsi = 0, uint64_t rdi = kRam, uint64_t rdx = 0) {
  Frame frame = UserFrame(UserLinear(code), kStackPage + 4096);
  frame.rdi = rdi, frame.rsi = rsi, frame.rdx = rdx;
  return frame;
}
Trap RunProgram(const Frame& frame) {
  const Trap trap = Resume(frame);
  EXPECT_TRAP(trap, 0x80, 0);
  EXPECT_EQ(trap.frame.rsp, kStackPage + 4096);
  return trap;
}

// --- Interrupts. ---
constexpr unsigned kTicks = 12;
volatile unsigned ticks;
void OnTick(Frame& frame) {
  EndOfInterrupt();
  EXPECT_EQ(frame.cs, kUserCode64);
  EXPECT_EQ(frame.rflags & kIF, kIF);
  ticks = ticks + 1;
  if (ticks < kTicks) return;
  frame.r15 = 1;
  if (frame.rip == UserLinear(spin_still)) frame.rip += 2;
}

struct Spin {
  const char* name;
  const char* code;
};
constexpr Spin kSpins[] = {{"registers", spin_registers}, {"memory", spin_memory},
                           {"indirect", spin_indirect},   {"calls", spin_calls},
                           {"stores", spin_stores},       {"one instruction", spin_still}};

uint64_t Counted(const FpuImage& image) {
  return *reinterpret_cast<const uint64_t*>(image.bytes + 160);
}

void ExpectCounted(const Spin& spin, const Trap& trap, const FpuImage& image, uint64_t memory) {
  const Frame& end = trap.frame;
  if (spin.code == spin_still) return;
  EXPECT(end.rbx > 0);
  if (spin.code == spin_registers) {
    EXPECT_EQ(end.rax, 3 * end.rbx);
    EXPECT_EQ(end.rcx, 3 * (end.rbx - 1));
    EXPECT_EQ(end.rdx, end.rbx);
    EXPECT_EQ(Counted(image), end.rbx);
  } else if (spin.code == spin_memory) {
    EXPECT_EQ(ReadMemory<uint64_t>(memory), end.rbx);
  } else if (spin.code == spin_indirect) {
    EXPECT_EQ(end.r8, (end.rbx + 3) / 4);
    EXPECT_EQ(end.r9, (end.rbx + 2) / 4);
    EXPECT_EQ(end.r10, (end.rbx + 1) / 4);
    EXPECT_EQ(end.r11, end.rbx / 4);
  } else if (spin.code == spin_calls) {
    EXPECT_EQ(end.rax, end.rbx);
  }
}

FpuImage fresh;
Frame SpinFrame(const Spin& spin) {
  Frame frame = Program(spin.code);
  frame.rflags |= kIF;
  return frame;
}

void StartApicTimer() {
  WriteApic(Apic::TIMER_DIVIDE, 3);
  WriteApic(Apic::LVT_TIMER, 0x10040);
  WriteApic(Apic::TIMER_INITIAL, 0xffffffff);
  Delay(10);
  const uint32_t per_10ms = 0xffffffff - ReadApic(Apic::TIMER_CURRENT);
  WriteApic(Apic::LVT_TIMER, 0x20040);  // periodic
  WriteApic(Apic::TIMER_INITIAL, per_10ms / 10);
}
void StopApicTimer() {
  WriteApic(Apic::TIMER_INITIAL, 0);
  WriteApic(Apic::LVT_TIMER, 0x10000);
}

void Interrupted() {
  SetHandler(0x40, OnTick);
  for (const bool pit : {false, true}) {
    if (pit) {
      Out8(0x43, 0x34);
      Out8(0x40, 1193182 / 1000 & 0xff);
      Out8(0x40, 1193182 / 1000 >> 8);
      SetIoapicPin(2, 0x40);
    } else {
      StartApicTimer();
    }
    for (const Spin& spin : kSpins) {
      Section(spin.name);
      WriteMemory<uint64_t>(ram, 0);
      LoadFpu(fresh);
      ticks = 0;
      const Trap trap = RunProgram(SpinFrame(spin));
      FpuImage image;
      SaveFpu(image);
      EXPECT(ticks >= kTicks);
      ExpectCounted(spin, trap, image, ram);
    }
    StopApicTimer();
    SetIoapicPin(2, kPinMasked);
  }
}

// --- Four programs at the same addresses take turns, at whatever instruction they are. ---
struct Task {
  AddressSpace space;
  Frame frame;
  FpuImage fpu;
  uint64_t memory;
};
constexpr unsigned kTasks = 4;
const Spin& SpinOf(unsigned task) {
  return kSpins[task % 3];  // two have XMM registers in use
}
Task* tasks;
unsigned current;
void OnTurn(Frame& frame) {
  EndOfInterrupt();
  ticks = ticks + 1;
  tasks[current].frame = frame;
  SaveFpu(tasks[current].fpu);
  current = (current + 1) % kTasks;
  frame = tasks[current].frame;
  LoadFpu(tasks[current].fpu);
  tasks[current].space.Use();
  if (ticks > 40) frame.r15 = 1;
}

void Preempted() {
  Section("turns");
  static Task storage[kTasks];
  tasks = storage;
  for (unsigned i = 0; i < kTasks; ++i) {
    Task& task = tasks[i];
    task.memory = NewFrame();
    task.space.Map(kRam, task.memory | kUserPage);
    task.space.Map(kStackPage, NewFrame() | kUserPage);
    task.frame = SpinFrame(SpinOf(i));
    task.fpu = fresh;
  }
  SetHandler(0x40, OnTurn);
  ticks = 0;
  current = 0;
  StartApicTimer();
  for (unsigned i = 0; i < kTasks; ++i) {
    LoadFpu(tasks[current].fpu);
    tasks[current].space.Use();
    const Trap trap = RunProgram(tasks[current].frame);
    FpuImage image;
    SaveFpu(image);
    ExpectCounted(SpinOf(current), trap, image, tasks[current].memory);
    // It spins on for the others' sake, where it does no harm.
    tasks[current].frame = SpinFrame({"", spin_still});
    for (unsigned next = 0; next < kTasks; ++next) {
      if (tasks[next].frame.rip == UserLinear(spin_still)) continue;
      current = next;
      tasks[current].frame.r15 = 1;
    }
  }
  StopApicTimer();
  SetHandler(0x40, [](Frame&) { EndOfInterrupt(); });  // one may be on its way
  space->Use();
  for (unsigned i = 0; i < kTasks; ++i) EXPECT_EQ(tasks[i].frame.rip, UserLinear(spin_still));
}

// --- Calls of the kernel. [SDM 2B] SYSCALL, SYSRET ---
void SystemCalls() {
  Section("SYSCALL");
  WriteMsr(0xc0000081, UINT64_C(0x2b) << 48 | UINT64_C(0x08) << 32);
  WriteMsr(0xc0000084, 0x40700);
  for (const uint64_t half : {uint64_t{0}, kKernelHalf}) {
    WriteMsr(0xc0000082, reinterpret_cast<uint64_t>(syscall_entry) + half);
    syscall_count = 0;
    RunProgram(Program(system_calls, 5000));
    EXPECT_EQ(syscall_count, 5000);
  }
  Section("IRET and far RET");
  RunProgram(Program(returns, 1000));
}

// --- Steps and breakpoints. ---
constexpr unsigned kSteps = 300;
volatile unsigned hits;
void OnStep(Frame& frame) {
  const char* const wanted = hits == kSteps - 1 ? steps_end : step_order[hits % 10];
  EXPECT_EQ(frame.rip, UserLinear(wanted));
  EXPECT_EQ(ReadDr6() & 0x4000, 0x4000);
  WriteDr6(0);
  hits = hits + 1;
}

void Steps() {
  Section("single steps");
  for (int round = 0; round < 3; ++round) {
    WriteMemory<uint64_t>(ram, 0);
    RunProgram(Program(steps, 2000));
    EXPECT_EQ(ReadMemory<uint64_t>(ram), 2000);
    hits = 0;
    SetHandler(kDB, OnStep);
    Frame frame = Program(steps, kSteps / 10);
    frame.rflags |= kTF;
    const Trap trap = RunProgram(frame);
    EXPECT_EQ(trap.rflags & kTF, kTF);
    EXPECT_EQ(hits, kSteps);
    EXPECT_EQ(ReadMemory<uint64_t>(ram), 2030);
  }
  Section("INT3");
  SetGateDpl(kBP, 3);
  SetHandler(kBP, [](Frame& frame) {
    EXPECT_EQ(frame.rip, UserLinear(stops_at) + 1);
    hits = hits + 1;
  });
  hits = 0;
  EXPECT_EQ(RunProgram(Program(stops, 1000)).frame.rbx, 1000);
  EXPECT_EQ(hits, 1000);
  SetGateDpl(kBP, 0);
  Section("TF by POPF");
  SetHandler(kDB, [](Frame&) {
    WriteDr6(0);
    hits = hits + 1;
  });
  hits = 0;
  EXPECT_EQ(RunProgram(Program(popf_steps, 500)).frame.rbx, 500);
  EXPECT_EQ(hits, 4 * 500);
  SetHandler(kDB, nullptr);
  SetHandler(kBP, nullptr);
}

unsigned hits_of[2];
void Breakpoints() {
  Section("breakpoints");
  if (UnderTcg()) return Skip("data breakpoints (QEMU TCG misses and misreports some)");
  SetHandler(kDB, [](Frame& frame) {
    const uint64_t dr6 = ReadDr6() & 0xf;
    WriteDr6(0);
    if (dr6 & 1) {
      ++hits_of[0];
      EXPECT_EQ(frame.rip, UserLinear(watched_1));
    }
    if (dr6 & 2) {
      ++hits_of[1];
      EXPECT_EQ(frame.rip, UserLinear(watched_2));
      frame.rflags |= kRF;
    }
  });
  // Bytes 0 to 7 written, bytes 8 to 15 read, or the instruction at watched_2.
  constexpr uint64_t kArms[] = {0x400, 0x90403, 0xb90000 | 0x40c, 0x90000 | 0x40f, 0x400};
  for (const uint64_t dr7 : kArms) {
    const bool execute = dr7 == (0x90000 | 0x40f);
    WriteDr0(kRam);
    const uint64_t second = execute ? UserLinear(watched_2) : kRam + 8;
    asm volatile("mov %0, %%dr1" : : "r"(second) : "memory");
    hits_of[0] = hits_of[1] = 0;
    WriteMemory<uint64_t>(ram, 0);
    RunProgram(Program(watched, 3000));
    WriteDr7(dr7);
    RunProgram(Program(watched, 200));
    WriteDr7(0x400);
    RunProgram(Program(watched, 3000));
    EXPECT_EQ(ReadMemory<uint64_t>(ram), 6200);
    EXPECT_EQ(hits_of[0], dr7 & 3 ? 200 : 0);
    EXPECT_EQ(hits_of[1], dr7 & 0xc ? 200 : 0);
  }
  SetHandler(kDB, nullptr);
}

// --- The kernel's instructions. ---
const Forbidden* trying;
unsigned refused;
void OnRefused(Frame& frame) {
  EXPECT_EQ(frame.vector, trying->vector);
  // QEMU's translator counts the bytes of a gate.
  const bool gate = UnderTcg() && (trying->error & 2);
  EXPECT_EQ(frame.error, gate ? 2 * trying->error - 2 : trying->error);
  EXPECT_EQ(frame.rip, UserLinear(trying->at));
  frame.rip = UserLinear(trying->next);
  if (++refused > 1000) Finish();
}

void Refused() {
  for (const uint8_t vector : {kDE, kUD, kGP}) SetHandler(vector, OnRefused);
  for (trying = forbidden_begin; trying != forbidden_end; ++trying) {
    Section(trying->name);
    refused = 0;
    Frame frame = Program(trying->at, 100);
    frame.rax = 0x11, frame.rcx = 0xc0000080, frame.rdx = 0x80;
    RunProgram(frame);
    EXPECT_EQ(refused, 100);
  }
  for (const uint8_t vector : {kDE, kUD, kGP}) SetHandler(vector, nullptr);
  Section("RDTSC under CR4.TSD");
  RunProgram(Program(queries, 1000, 0));
  WriteCr4(ReadCr4() | 4);
  const Trap trap = Resume(Program(queries, 10, 0));
  WriteCr4(ReadCr4() & ~4ull);
  EXPECT_TRAP(trap, kGP, 0);
  EXPECT_EQ(trap.rip, UserLinear(queries));
  Section("CPUID");
  const Trap end = RunProgram(Program(queries, 1000, 0));
  const CpuidResult leaf = Cpuid(0);
  EXPECT_EQ(end.frame.rax, leaf.eax);
  EXPECT_EQ(end.frame.rbx, leaf.ebx);
  EXPECT_EQ(end.frame.rcx, leaf.ecx);
  EXPECT_EQ(end.frame.rdx, leaf.edx);
}

// --- Flags. [SDM 2B] POPF: IF and IOPL are not a user's ---
void FlagsByPopf() {
  Section("POPF");
  constexpr uint64_t kOwn = 0x244cd5;  // ID, AC, NT, OF, DF, SF, ZF, AF, PF, CF
  for (const uint64_t wanted : {0x2ull, 0xcd7ull, 0x3602ull, 0x4002ull, 0x40402ull, 0x200002ull,
                                0x243ed7ull, 0x1a8002ull}) {
    for (const uint64_t interrupts : {uint64_t{0}, kIF}) {
      Frame frame = Program(flags, 500, kRam, wanted);
      frame.rflags |= interrupts;
      const Trap trap = RunProgram(frame);
      EXPECT_EQ(trap.frame.rax, (wanted & kOwn) | 2 | interrupts);
    }
  }
  Section("alignment checks");
  if (UnderTcg()) return Skip("#AC");
  WriteCr0(ReadCr0() | 1u << 18);
  for (const unsigned rounds : {1u, 2000u}) {
    Frame frame = Program(misaligned, rounds);
    frame.rbx = 77;
    const Trap trap = Resume(frame);
    EXPECT_TRAP(trap, kAC, 0);
    EXPECT_EQ(trap.rip, UserLinear(misaligned_at));
    EXPECT_EQ(trap.frame.rbx, 77);
  }
  WriteCr0(ReadCr0() & ~(1ull << 18));
  EXPECT_TRAP(Resume(Program(misaligned, 2000)), kUD, 0);
}

// --- Devices that a program may touch. ---
void Devices() {
  Section("devices");
  space->Map(kDevicePage, kApicPage | kUserPage | 0x18);
  space->Map(kIoapicPage, kIoapic | kUserPage | 0x18);
  WriteMemory<uint64_t>(ram, kRam + 64);
  WriteMemory<uint64_t>(ram + 8, kDevicePage + 0x30);
  WriteMemory<uint64_t>(ram + 16, kOther);
  WriteMemory<uint64_t>(ram + 24, kIoapicPage + 0x10);
  WriteMemory<uint32_t>(ram + 64, 5);
  WriteMemory<uint32_t>(other_ram, 9);
  const uint64_t apic = ReadApic(Apic::VERSION), ioapic = ReadIoapic(1);
  EXPECT(apic != 0);
  EXPECT(ioapic != 0);
  EXPECT_EQ(RunProgram(Program(devices, 4000)).frame.rbx, 1000 * (5 + 9 + apic + ioapic));
  Section("the task priority");
  RunProgram(Program(task_priority, 1000, kDevicePage + 0x80));
  EXPECT_EQ(ReadApic(Apic::TPR), 0x31);
  WriteApic(Apic::TPR, 0);
  // RAM in its stead, and away.
  space->Map(kDevicePage, ram | kUserPage);
  InvalidatePage(kDevicePage);
  RunProgram(Program(task_priority, 1000, kDevicePage + 0x80));
  EXPECT_EQ(ReadMemory<uint32_t>(ram + 0x80), 0x31);
  EXPECT_EQ(ReadApic(Apic::TPR), 0);
  space->Map(kDevicePage, 0);
  InvalidatePage(kDevicePage);
  EXPECT_TRAP(Resume(Program(task_priority, 1000, kDevicePage + 0x80)), kPF, 6);
}

void OwnBases() {
  Section("WRFSBASE");
  if (Cpuid(0).eax < 7 || !(Cpuid(7).ebx & 1)) return Skip("FSGSBASE");
  WriteMemory<uint64_t>(ram + 8, 0);
  WriteMemory<uint64_t>(other_ram + 8, 0);
  EXPECT_TRAP(Resume(Program(own_base, 10)), kUD, 0);
  WriteCr4(ReadCr4() | 1u << 16);
  const Trap trap = RunProgram(Program(own_base, 2000, kRam, kOther));
  WriteCr4(ReadCr4() & ~(1ull << 16));
  EXPECT_EQ(ReadMemory<uint64_t>(ram + 8), 1000);
  EXPECT_EQ(ReadMemory<uint64_t>(other_ram + 8), 1000);
  // The page that FS points to has been counted up as often as GS has pointed to it.
  EXPECT_EQ(trap.frame.rbx, 999 * 1000 / 2 + 1000 * 1001 / 2);
}

}  // namespace

void GuestMain() {
  StartProcesses();
  InitPics();
  EnableApic();
  static AddressSpace process;
  space = &process;
  ram = NewFrame();
  other_ram = NewFrame();
  process.Map(kRam, ram | kUserPage);
  process.Map(kOther, other_ram | kUserPage);
  process.Map(kStackPage, NewFrame() | kUserPage);
  process.Use();
  asm volatile("fninit");
  SaveFpu(fresh);
  *reinterpret_cast<uint64_t*>(fresh.bytes + 160) = 0;  // XMM0
  *reinterpret_cast<uint64_t*>(fresh.bytes + 176) = 1;  // XMM1
  Interrupted();
  Preempted();
  SystemCalls();
  Steps();
  Breakpoints();
  Refused();
  FlagsByPopf();
  Devices();
  OwnBases();
}
