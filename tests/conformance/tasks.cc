// Hardware task switches. [SDM 3A] 7
#include "lib32/guest.h"

using namespace guest;

namespace {

// Selectors of the guest's own.
enum Own : uint16_t {
  kOther = kFree,   // a 32-bit TSS
  kOther16 = 0x50,  // a 16-bit TSS
  kGate = 0x58,     // a task gate to kOther
  kShort = 0x60,    // a TSS that is too small
  kAbsent = 0x68,   // a TSS that is not present
  kLdtOfOther = 0x70,
  kGateUser = 0x78,  // a task gate for CPL 3
  kCodeOf16 = 0x80,  // of the 16-bit task
  kStackOf16 = 0x88,
  kHandler = 0x90,  // the TSS of a task that handles faults
};

Tss32 other;
Tss16 other16;
alignas(16) uint8_t other_stack[4096], other16_stack[4096];
uint64_t ldt[4];
volatile uint32_t seen[8];

extern "C" {
void OtherTask();
void OtherTask16();
void OtherFault();
void FaultTask();
volatile uint32_t task_eflags, task_esp, task_eax, task_cr0, task_link, task_error;
}
// The other task notes what it sees, and goes back by IRET; entered again, it goes on after that.
asm(R"(
    .global OtherTask, OtherTask16, OtherFault
OtherTask:
    mov %esp, task_esp
    mov %eax, task_eax
    pushf
    popl task_eflags
    mov %cr0, %eax
    mov %eax, task_cr0
    clts
    iret
    jmp OtherTask

OtherFault:                     # entered through a task gate with an error code
    popl task_error
    mov %esp, task_esp
    addl $2, _ZN5guest3tssE + 32        # past MOV SS, EAX
    clts
    iret
    jmp OtherFault

    .global FaultTask
FaultTask:                      # back to Try(), as the first task
    popl task_error
    pushf
    andl $~0x4000, (%esp)
    popf
    jmp trap_resume
    .code16
OtherTask16:
    addr32 mov %esp, task_esp
    addr32 mov %eax, task_eax
    pushfl
    addr32 popl task_eflags
    clts
    iret
    jmp OtherTask16
    .code32
)");

constexpr uint32_t kArithmetic = 0x8d5;  // QEMU TCG loads some of them otherwise

uint32_t Address(const void* at) {
  return reinterpret_cast<uint32_t>(at);
}

void Prepare(void (*entry)() = OtherTask) {
  other = {};
  other.eip = reinterpret_cast<uint32_t>(entry);
  other.eflags = 2;
  other.eax = 0x11223344;
  other.esp = Address(other_stack + sizeof other_stack);
  other.cs = kCode;
  other.ss = other.ds = other.es = kData;
  other.fs = kUserData;
  other.gs = 0;
  other.ldt = kLdtOfOther;
  other.cr3 = ReadCr3();
  other.io_map = sizeof other;
  SetSegment(kOther, Address(&other), sizeof other - 1, kTss32, kByte16);
  other16 = {};
  other16.ip = 0;
  other16.flags = 2;
  other16.ax = 0x5566;
  other16.sp = sizeof other16_stack;
  other16.cs = kCodeOf16;
  other16.ss = kStackOf16;
  other16.ds = other16.es = kData;
  // Code and stack of the 16-bit task have bases of their own: IP and SP are 16 bits wide.
  SetSegment(kCodeOf16, reinterpret_cast<uint32_t>(OtherTask16), 0xffff, kExecuteRead, kByte16);
  SetSegment(kStackOf16, Address(other16_stack), 0xffff, kReadWrite, kByte16);
  SetSegment(kOther16, Address(&other16), sizeof other16 - 1, kTss16, kByte16);
  SetGate(kGate, kOther, 0, kTaskGate);
  SetGate(kGateUser, kOther, 0, kTaskGate | kDpl3);
  SetSegment(kShort, Address(&other), 102, kTss32, kByte16);
  SetSegment(kAbsent, Address(&other), sizeof other - 1, kTss32 & ~0x80, kByte16);
  SetSegment(kLdtOfOther, Address(ldt), sizeof ldt - 1, kLdt, kByte16);
  SetSegment(kTss, Address(&tss), sizeof tss - 1, kTss32 | 2, kByte16);
  asm volatile("clts");
}

void CallFar(uint16_t selector) {
  const struct [[gnu::packed]] {
    uint32_t offset;
    uint16_t selector;
  } pointer = {0xdeadbeef, selector};
  asm volatile("lcall *%0" : : "m"(pointer) : "eax", "memory", "cc");
}
void JumpFar(uint16_t selector) {
  const struct [[gnu::packed]] {
    uint32_t offset;
    uint16_t selector;
  } pointer = {0xdeadbeef, selector};
  asm volatile("ljmp *%0" : : "m"(pointer) : "eax", "memory", "cc");
}

void Calls() {
  Section("CALL and IRET");
  Prepare();
  tss.ebx = 0;
  uint32_t kept = 0x12345678;
  asm volatile("mov %0, %%ebx" : : "r"(kept) : "ebx");
  EXPECT_NO_TRAP(Try([] { CallFar(kOther); }));
  EXPECT_EQ(task_eax, 0x11223344);
  EXPECT_EQ(task_esp, Address(other_stack + sizeof other_stack));
  EXPECT_EQ(task_eflags & ~kArithmetic, 2u | kNT);  // a nested task
  EXPECT_EQ(task_cr0 & 8, 8);                       // CR0.TS
  EXPECT_EQ(other.link, kTss);
  EXPECT_EQ(other.eflags & kNT, 0);  // IRET saved it clear
  EXPECT_EQ(TaskRegister(), kTss);
  EXPECT_EQ(DescriptorType(kOther), kTss32);    // not busy any more
  EXPECT_EQ(DescriptorType(kTss), kTss32 | 2);  // busy all the time
  EXPECT_EQ(tss.cs, kCode);
  EXPECT_EQ(other.fs, kUserData);
  EXPECT(other.eip != reinterpret_cast<uint32_t>(OtherTask));  // it goes on where it left off
  // Through a gate; the offset of the pointer means nothing.
  task_eax = 0;
  EXPECT_NO_TRAP(Try([] { CallFar(kGate); }));
  EXPECT_EQ(DescriptorType(kOther), kTss32);
  // RPL and DPL.
  EXPECT_TRAP(Try([] { CallFar(kOther | 3); }), kGP, kOther);
  EXPECT_TRAP(Try([] { CallFar(kGate | 3); }), kGP, kGate);
  EXPECT_NO_TRAP(Try([] { CallFar(kGateUser | 3); }));

  Section("16-bit TSS");
  Prepare();
  EXPECT_NO_TRAP(Try([] { CallFar(kOther16); }));
  EXPECT_EQ(task_eax & 0xffff, 0x5566);
  EXPECT_EQ(task_esp & 0xffff, sizeof other16_stack);
  EXPECT_EQ(task_eflags & 0xffff & ~kArithmetic, 2u | kNT);
  EXPECT_EQ(other16.link, kTss);
  EXPECT_EQ(other16.flags & kNT, 0);
  EXPECT_EQ(other16.cs, kCodeOf16);
  EXPECT_EQ(DescriptorType(kOther16), kTss16);
}

extern "C" void JumpBack();
asm(R"(
    .global JumpBack
JumpBack:
    pushf
    popl task_eflags
    ljmp $0x28, $0
    jmp JumpBack
)");

void Jumps() {
  Section("JMP");
  Prepare(JumpBack);
  other.link = 0x1234;
  EXPECT_NO_TRAP(Try([] { JumpFar(kOther); }));
  EXPECT_EQ(task_eflags & ~kArithmetic, 2);  // not nested
  EXPECT_EQ(other.link, 0x1234);             // not written
  EXPECT_EQ(DescriptorType(kOther), kTss32);
  EXPECT_EQ(DescriptorType(kTss), kTss32 | 2);
}

void Faults() {
  Section("faults in the old task");
  Prepare();
  if (!UnderTcg()) {
    EXPECT_TRAP(Try([] { CallFar(kTss); }), kGP, kTss);  // busy
    EXPECT_TRAP(Try([] { JumpFar(kTss); }), kGP, kTss);
  }
  EXPECT_TRAP(Try([] { CallFar(kShort); }), kTS, kShort);
  EXPECT_TRAP(Try([] { CallFar(kAbsent); }), kNP, kAbsent);
  SetGate(kGate, kOther, 0, kTaskGate & ~0x80);
  EXPECT_TRAP(Try([] { CallFar(kGate); }), kNP, kGate);
  SetGate(kGate, kData, 0, kTaskGate);
  EXPECT_TRAP(Try([] { CallFar(kGate); }), kGP, kData);  // no TSS
  SetGate(kGate, kOther | 4, 0, kTaskGate);
  if (!UnderTcg()) EXPECT_TRAP(Try([] { CallFar(kGate); }), kGP, kOther | 4);  // in the LDT
  Trap trap = Try([] { CallFar(kShort); });
  EXPECT_EQ(trap.tr, kTss);
  EXPECT_EQ(ReadMemory<uint8_t>(trap.eip), 0xff);  // restartable: the CALL itself

  Section("IRET");
  tss.link = 0;
  const auto iret_nested = [] {
    asm volatile("pushf\n orl $0x4000, (%%esp)\n popf\n iret" : : : "memory", "cc");
  };
  EXPECT_TRAP(Try(iret_nested), kTS, 0);
  tss.link = kOther;  // not busy
  EXPECT_TRAP(Try(iret_nested), kTS, kOther);

  if (UnderTcg()) return Skip("faults in the new task (QEMU TCG loads it before it looks)");
  Section("faults in the new task");
  // It has begun: TR is the new one, EIP that of its first instruction. Its segments may be of no
  // use, so the handler must be a task as well. [SDM 3A] 6.15, interrupt 10
  const auto expect_new = [](uint8_t vector, uint32_t error, int line) {
    static Tss32 handler;
    handler = {};
    handler.eip = reinterpret_cast<uint32_t>(FaultTask);
    handler.eflags = 2;
    handler.esp = Address(other16_stack + sizeof other16_stack);
    handler.cs = kCode;
    handler.ss = handler.ds = handler.es = kData;
    handler.cr3 = ReadCr3();
    SetSegment(kHandler, Address(&handler), sizeof handler - 1, kTss32, kByte16);
    SetIdtGate(vector, kHandler, 0, kTaskGate);
    task_error = ~0u;
    Try([] { CallFar(kOther); });
    ResetIdtGate(vector);
    ExpectEqual(task_error, error, "tasks.cc", line, "error code");
    ExpectEqual(handler.link, kOther, "tasks.cc", line, "task that faulted");
    ExpectEqual(other.eip, reinterpret_cast<uint32_t>(OtherTask), "tasks.cc", line, "EIP");
    // Back: this flow of control belongs to the first task.
    SetSegment(kTss, Address(&tss), sizeof tss - 1, kTss32, kByte16);
    asm volatile("clts\n ltr %w0" : : "r"(uint32_t{kTss}));
  };
  const auto with = [&](auto change, uint8_t vector, uint32_t error, int line) {
    Prepare();
    change();
    expect_new(vector, error, line);
  };
  with([] { other.ldt = kData; }, kTS, kData, __LINE__);
  with([] { other.ldt = 4 | 8; }, kTS, 12, __LINE__);
  with([] { other.cs = kData; }, kTS, kData, __LINE__);
  with([] { other.ss = 0; }, kTS, 0, __LINE__);
  with([] { other.ss = kUserData; }, kTS, kUserData & ~3, __LINE__);
  with([] { other.ds = kNotPresent; }, kNP, kNotPresent, __LINE__);
  with([] { other.ss = kNotPresent; }, kSS, kNotPresent, __LINE__);
  with([] { other.es = 0x1f8; }, kTS, 0x1f8, __LINE__);
}

void Gates() {
  Section("interrupts through task gates");
  Prepare();
  SetIdtGate(0x40, kOther, 0, kTaskGate);
  EXPECT_NO_TRAP(Try([] { asm volatile("int $0x40" : : : "eax", "memory"); }));
  EXPECT_EQ(task_eflags & kNT, kNT);
  EXPECT_EQ(other.link, kTss);
  ResetIdtGate(0x40);
  // The error code stands on the new stack, the faulting EIP in the old TSS.
  Prepare(OtherFault);
  SetIdtGate(kGP, kOther, 0, kTaskGate);
  task_error = 0;
  Print("next: an exception through a task gate\n");  // what a KVM that emulates lacks
  extern const char past_load[] asm("past_load");
  EXPECT_NO_TRAP(Try([] {
    asm volatile("mov %0, %%ss\n .global past_load\n past_load: nop"
                 :
                 : "r"(uint32_t{kCode16})
                 : "memory");
  }));
  ResetIdtGate(kGP);
  EXPECT_EQ(task_error, kCode16);
  EXPECT_EQ(task_esp, Address(other_stack + sizeof other_stack));
  EXPECT_EQ(tss.eip, Address(past_load));
  // A busy task behind the gate: #GP, with EXT only if it was no INT n. [SDM 3A] 6.13
  SetIdtGate(0x40, kTss, 0, kTaskGate);
  EXPECT_TRAP(Try([] { asm volatile("int $0x40"); }), kGP, kTss);
  ResetIdtGate(0x40);
  SetIdtGate(kUD, kTss, 0, kTaskGate);
  EXPECT_TRAP(Try([] { asm volatile("ud2"); }), kGP, kTss | (UnderTcg() ? 0 : 1));
  ResetIdtGate(kUD);
}

void Debugging() {
  Section("T bit and DR7");
  if (UnderTcg()) return Skip("the T bit (QEMU TCG has none)");
  Prepare();
  other.trap = 1;
  WriteDr6(0);
  WriteDr7(0x401 | 0xf << 4);  // L0, L2, G2 and L3: the L bits are the old task's
  static uint32_t eip, dr6, dr7;
  SetHandler(kDB, [](Frame& frame) {
    eip = frame.eip;
    dr6 = ReadDr6();
    dr7 = ReadDr7();
    WriteDr7(0x400);
  });
  EXPECT_NO_TRAP(Try([] { CallFar(kOther); }));
  SetHandler(kDB, nullptr);
  EXPECT_EQ(eip, reinterpret_cast<uint32_t>(OtherTask));
  EXPECT_EQ(dr6 & 0xe00f, 0x8000);
  EXPECT_EQ(dr7, 0x400 | 0xa << 4);
}

}  // namespace

void GuestMain() {
  Calls();
  Jumps();
  Faults();
  Gates();
  Debugging();
}
