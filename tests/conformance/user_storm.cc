// Three programs at CPL 3 that use more memory than there is, with all kinds of accesses at all
// kinds of places, while a timer gives each its turn and a kernel takes their pages away, puts them
// into other frames, writes back what is dirty and believes what is not. In the end their memory
// is what the same programs make of memory of their own at CPL 0. [SDM 3A] 4.8, 4.10.4
#include "lib/apic.h"
#include "lib/process.h"

using namespace guest;

namespace {

// RBX to R13 rounds on 48 pages at RDI; R12 is where the random numbers are.
USER_CODE(R"(
    .global storm
storm:
    movabs $6364136223846793005, %rax
    imul  %rax, %r12
    movabs $1442695040888963407, %rax
    add   %rax, %r12
    mov   %rbx, %rax            # for 512 rounds in the same four pages
    shr   $9, %rax
    imul  $0x1e3779b1, %eax, %eax
    imul  $43, %rax, %rax
    shr   $32, %rax
    shl   $12, %rax
    lea   (%rdi,%rax), %rsi
    mov   %rsi, %r9
    mov   %r12, %rcx
    shr   $33, %rcx
    and   $0x3fff, %ecx
    add   %rcx, %rsi
    mov   %r12, %rcx
    shr   $47, %rcx
    and   $0x3fff, %ecx
    add   %rcx, %r9
    mov   %r12, %rax
    shr   $29, %rax
    and   $15, %eax
    lea   2f(%rip), %rdx
    movslq (%rdx,%rax,4), %rax
    add   %rdx, %rax
    jmp   *%rax
    .balign 4
2:  .long 10f - 2b, 11f - 2b, 12f - 2b, 13f - 2b, 14f - 2b, 15f - 2b, 16f - 2b, 17f - 2b
    .long 20f - 2b, 21f - 2b, 22f - 2b, 23f - 2b, 24f - 2b, 25f - 2b, 26f - 2b, 27f - 2b
10: add   %r12, (%rsi)
    jmp   3f
11: mov   %r12d, (%rsi)
    jmp   3f
12: mov   (%rsi), %rax
    add   %rax, %r8
    jmp   3f
13: movups (%rsi), %xmm0
    paddq %xmm0, %xmm1
    movups %xmm1, (%r9)
    jmp   3f
14: lea   8(%rsi), %rsp
    push  %r12
    jmp   3f
15: mov   %r12, %rax
    lock xadd %rax, (%rsi)
    add   %rax, %r8
    jmp   3f
16: mov   %rdi, %r10
    mov   %rsi, %rdi
    mov   %r12, %rax
    mov   $37, %ecx
    rep   stosb
    mov   %r10, %rdi
    jmp   3f
17: mov   %rdi, %r10
    mov   %r9, %rdi
    mov   $61, %ecx
    rep   movsb
    mov   %r10, %rdi
    jmp   3f
20: fildll (%rsi)
    fistpll (%r9)
    jmp   3f
21: cmp   %r12, %r8
    adcq  $5, (%rsi)
    jmp   3f
22: mov   %rsi, %rsp
    popq  (%r9)
    jmp   3f
23: xchg  %r8, (%rsi)
    jmp   3f
24: mov   %r12, %rax
    add   %ah, (%rsi)
    jmp   3f
25: cmp   %r12d, (%rsi)
    cmova (%r9), %r8
    jmp   3f
26: mov   %r12, %rax
    and   $0x3ff, %eax
    bts   %rax, (%rsi)
    adc   $0, %r8
    jmp   3f
27: incl  (%r9)
3:  inc   %rbx
    cmp   %r13, %rbx
    jb    storm
    int   $0x80
)");
extern "C" const char storm[];

constexpr unsigned kTasks = 3, kPages = 48, kFrames = 30, kNowhere = kFrames;
constexpr uint64_t kBase = 0x7ffffffd0000;  // the last pages of the user's half
constexpr uint64_t kRounds = 50000, kPcide = 1 << 17, kNoFlush = 1ull << 63;
constexpr uint64_t kPoison = 0xdeadbeefdeadbeef;

struct Task {
  AddressSpace space;
  Frame frame;
  FpuImage fpu;
  uint64_t disk[kPages];
  unsigned resident[kPages];  // which frame
  uint64_t pcid;
  bool done;
};
Task* tasks;
struct Resident {
  uint64_t physical;
  bool used;
  unsigned task, page;
} residents[kFrames];
uint64_t shadow;  // pages that follow each other
unsigned current, next_victim;
unsigned faults, clean, dirty, turns;
uint64_t random = 88172645463325252;
bool pcids;
FpuImage fresh;

unsigned Random(unsigned below) {
  random ^= random << 13;
  random ^= random >> 7;
  random ^= random << 17;
  return static_cast<unsigned>((random >> 32) % below);
}
void Copy(uint64_t to, uint64_t from) {
  for (unsigned i = 0; i < 4096; i += 8)
    WriteMemory<uint64_t>(to + i, ReadMemory<uint64_t>(from + i));
}
unsigned Differences(uint64_t a, uint64_t b) {
  unsigned count = 0;
  for (unsigned i = 0; i < 4096; i += 8)
    if (ReadMemory<uint64_t>(a + i) != ReadMemory<uint64_t>(b + i)) ++count;
  return count;
}
volatile uint64_t& Pte(const Resident& resident) {
  return tasks[resident.task].space.Pte(kBase + 4096 * resident.page);
}
// Nobody knows the page's old entry any longer.
void Forget(const Resident& resident) {
  const uint64_t page = kBase + 4096 * resident.page;
  if (resident.task == current) {
    InvalidatePage(page + Random(4096));
  } else if (pcids) {
    Invpcid(0, tasks[resident.task].pcid, page);
  }
}
// What the disk does not have goes there; an entry that is not dirty says that it has all.
void WriteBack(const Resident& resident, uint64_t entry) {
  const uint64_t disk = tasks[resident.task].disk[resident.page];
  if (entry & kDirty) {
    EXPECT(entry & kAccessed);
    ++dirty;
    Copy(disk, resident.physical);
  } else {
    ++clean;
    EXPECT_EQ(Differences(disk, resident.physical), 0);
  }
}

// A frame for something else.
unsigned Evict() {
  next_victim = (next_victim + 1) % kFrames;
  Resident& victim = residents[next_victim];
  if (!victim.used) return next_victim;
  const uint64_t entry = Pte(victim);
  Pte(victim) = 0;
  Forget(victim);
  WriteBack(victim, entry);
  tasks[victim.task].resident[victim.page] = kNowhere;
  victim.used = false;
  for (unsigned i = 0; i < 4096; i += 64) WriteMemory<uint64_t>(victim.physical + i, kPoison);
  return next_victim;
}

void OnPageFault(Frame& frame) {
  const uint64_t address = ReadCr2();
  const uint64_t page = (address - kBase) / 4096;
  EXPECT(address >= kBase && page < kPages);
  if (address < kBase || page >= kPages || ++faults > 100000) Finish();
  Task& task = tasks[current];
  unsigned where = task.resident[page];
  if (where == kNowhere) {
    EXPECT_EQ(frame.error & ~2ull, 4);
    where = Evict();
    residents[where].used = true;
    residents[where].task = current, residents[where].page = static_cast<unsigned>(page);
    task.resident[page] = where;
    Copy(residents[where].physical, task.disk[page]);
    // What is read may stay as it is.
    const uint64_t write = frame.error & 2 || Random(2) == 0 ? uint64_t{kWrite} : 0;
    Pte(residents[where]) = residents[where].physical | kPresent | kUser | write;
    return;
  }
  EXPECT_EQ(frame.error, 7);
  EXPECT_EQ(Pte(residents[where]) & (kWrite | kDirty), 0);
  Pte(residents[where]) |= kWrite;
  if (Random(2)) Forget(residents[where]);
}

// The kernel's daemons: pages become clean, read-only, others.
void Disturb() {
  for (unsigned i = 0; i < 6; ++i) {
    const unsigned which = Random(kFrames);
    Resident& resident = residents[which];
    if (!resident.used) continue;
    const uint64_t entry = Pte(resident);
    switch (Random(3)) {
      case 0:  // written back, and clean
        Pte(resident) = entry & ~uint64_t{kDirty | kAccessed};
        Forget(resident);
        WriteBack(resident, entry);
        break;
      case 1:  // clean and read-only
        Pte(resident) = entry & ~uint64_t{kDirty | kAccessed | kWrite};
        Forget(resident);
        WriteBack(resident, entry);
        break;
      default: {  // moved to another frame
        const Resident old = resident;
        const unsigned to = Evict();
        if (to == which) break;  // it was the victim itself
        Pte(old) = 0;
        Forget(old);
        Copy(residents[to].physical, old.physical);
        for (unsigned j = 0; j < 4096; j += 64) WriteMemory<uint64_t>(old.physical + j, kPoison);
        residents[to].used = true;
        residents[to].task = old.task, residents[to].page = old.page;
        resident.used = false;
        tasks[old.task].resident[old.page] = to;
        Pte(old) = residents[to].physical | (entry & 0xfff);
      }
    }
  }
}

void UseTask(unsigned which) {
  current = which;
  WriteCr3(tasks[which].space.root() | tasks[which].pcid | (pcids && Random(4) ? kNoFlush : 0));
  LoadFpu(tasks[which].fpu);
}

// The next tick comes when a program has had some time, however slow the kernel is.
uint32_t slice;
void StartTimer() {
  WriteApic(Apic::TIMER_DIVIDE, 3);
  WriteApic(Apic::LVT_TIMER, 0x10040);
  WriteApic(Apic::TIMER_INITIAL, 0xffffffff);
  Delay(10);
  slice = (0xffffffff - ReadApic(Apic::TIMER_CURRENT)) / 20;
  WriteApic(Apic::LVT_TIMER, 0x40);  // one-shot
  WriteApic(Apic::TIMER_INITIAL, slice);
}

void OnTick(Frame& frame) {
  EndOfInterrupt();
  ++turns;
  Disturb();
  tasks[current].frame = frame;
  SaveFpu(tasks[current].fpu);
  unsigned next = current;
  do next = (next + 1) % kTasks;
  while (tasks[next].done);
  UseTask(next);
  frame = tasks[next].frame;
  WriteApic(Apic::TIMER_INITIAL, slice);
}

uint64_t Original(unsigned task, uint64_t offset) {
  return (offset + task + 1) * 0x9e3779b97f4a7c15;
}
Frame Program(unsigned task, uint64_t base) {
  Frame frame = UserFrame(UserLinear(storm));
  frame.rdi = base, frame.r12 = 1000 + task + pcids * 10u, frame.r13 = kRounds;
  return frame;
}

// The same at CPL 0, in memory that is always there.
void ExpectAsAlone(unsigned which, const Frame& end) {
  Section("alone");
  Task& task = tasks[which];
  for (unsigned i = 0; i < kPages * 4096; i += 8)
    WriteMemory<uint64_t>(shadow + i, Original(which, i));
  LoadFpu(fresh);
  Frame frame = Program(which, shadow);
  frame.cs = kCode64, frame.ss = kData;
  const Trap trap = Resume(frame);
  EXPECT_TRAP(trap, 0x80, 0);
  EXPECT_EQ(end.rbx, kRounds);
  EXPECT_EQ(end.rdi, kBase);
  EXPECT_EQ(end.r8, trap.frame.r8);
  EXPECT_EQ(end.r12, trap.frame.r12);
  EXPECT_EQ(end.rsi - kBase, trap.frame.rsi - shadow);
  EXPECT_EQ(end.rflags & 0x8d5, trap.frame.rflags & 0x8d5);
  for (unsigned page = 0; page < kPages; ++page) {
    const unsigned where = task.resident[page];
    const uint64_t at = where == kNowhere ? task.disk[page] : residents[where].physical;
    EXPECT_EQ(Differences(at, shadow + 4096 * page), 0);
  }
}

void Storm() {
  Section(pcids ? "storm with PCIDs" : "storm");
  if (pcids) WriteCr4(ReadCr4() | kPcide);
  for (unsigned i = 0; i < kTasks; ++i) {
    Task& task = tasks[i];
    task.done = false;
    task.pcid = pcids ? i + 1 : 0;
    task.frame = Program(i, kBase);
    task.frame.rflags |= 0x200;
    task.fpu = fresh;
    for (unsigned page = 0; page < kPages; ++page) {
      task.space.Map(kBase + 4096 * page, 0);
      task.resident[page] = kNowhere;
      for (unsigned at = 0; at < 4096; at += 8)
        WriteMemory<uint64_t>(task.disk[page] + at, Original(i, 4096 * page + at));
    }
    if (pcids) Invpcid(1, task.pcid, 0);
  }
  for (Resident& resident : residents) resident.used = false;
  faults = clean = dirty = turns = 0;
  for (unsigned left = kTasks; left > 0; --left) {
    unsigned next = 0;
    while (tasks[next].done) ++next;
    UseTask(next);
    const Trap trap = Resume(tasks[next].frame);
    EXPECT_TRAP(trap, 0x80, 0);
    tasks[current].done = true;
    ExpectAsAlone(current, trap.frame);
    Section(pcids ? "storm with PCIDs" : "storm");
  }
  EXPECT(faults > 1000);
  EXPECT(dirty > 100);
  EXPECT(clean > 10);
  EXPECT(turns > 0);
  tasks[0].space.Use();
  WriteCr4(ReadCr4() & ~kPcide);
}

}  // namespace

void GuestMain() {
  StartProcesses();
  EnableApic();
  SetGateStack(0x80, 1);  // the stack of CPL 0 is anywhere
  asm volatile("fninit");
  SaveFpu(fresh);
  for (unsigned i = 160; i < 416; ++i) fresh.bytes[i] = 0;
  static Task storage[kTasks];
  tasks = storage;
  shadow = NewFrame();
  for (unsigned i = 1; i < kPages; ++i) EXPECT_EQ(NewFrame(), shadow + 4096 * i);
  for (unsigned i = 0; i < kTasks; ++i)
    for (uint64_t& disk : tasks[i].disk) disk = NewFrame();
  for (Resident& resident : residents) resident.physical = NewFrame();
  tasks[0].space.Use();
  SetHandler(kPF, OnPageFault);
  SetHandler(0x40, OnTick);
  StartTimer();
  Storm();
  pcids = Cpuid(1).ecx & 1u << 17 && Cpuid(0).eax >= 7 && Cpuid(7).ebx & 1u << 10;
  if (!pcids) return Skip("PCID, INVPCID");
  Storm();
}
