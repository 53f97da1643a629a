// Segmentation in protected mode: limits, types, privileges, gates. [SDM 3A] 3.4, 5
#include "lib32/guest.h"

using namespace guest;

namespace {

alignas(16) uint8_t data[0x20000];
constexpr uint16_t kSeg = kFree, kGate = 0x50, kTarget = 0x58, kStack = 0x60;

uint32_t Address(const void* at) {
  return reinterpret_cast<uint32_t>(at);
}
void LoadFs(uint16_t selector) {
  asm volatile("mov %0, %%fs" : : "r"(uint32_t{selector}));
}
uint16_t in_use;  // what FS gets before each access: an exception leaves it flat
uint8_t ReadFs(uint32_t offset) {
  LoadFs(in_use);
  uint8_t value;
  asm volatile("movb %%fs:(%1), %0" : "=q"(value) : "r"(offset));
  return value;
}
uint32_t ReadFs4(uint32_t offset) {
  LoadFs(in_use);
  uint32_t value;
  asm volatile("movl %%fs:(%1), %0" : "=r"(value) : "r"(offset));
  return value;
}
void WriteFs(uint32_t offset) {
  LoadFs(in_use);
  asm volatile("movb $1, %%fs:(%0)" : : "r"(offset) : "memory");
}
// A segment over `data` in FS.
void Use(uint32_t limit, unsigned access, Granularity granularity) {
  SetSegment(kSeg, Address(data), limit, access, granularity);
  in_use = kSeg;
}

void Limits() {
  Section("limits");
  Use(0xfff, kReadWrite, kByte32);
  EXPECT_NO_TRAP(Try([] { ReadFs(0xfff); }));
  EXPECT_NO_TRAP(Try([] { ReadFs4(0xffc); }));
  if (UnderTcg()) return Skip("limits (QEMU TCG does not check them)");
  EXPECT_TRAP(Try([] { ReadFs(0x1000); }), kGP, 0);
  EXPECT_TRAP(Try([] { ReadFs4(0xffd); }), kGP, 0);
  EXPECT_TRAP(Try([] { WriteFs(0xffffffff); }), kGP, 0);
  Use(1, kReadWrite, kPage32);  // 8 KiB
  EXPECT_NO_TRAP(Try([] { ReadFs(0x1fff); }));
  EXPECT_TRAP(Try([] { ReadFs(0x2000); }), kGP, 0);

  Section("expand-down");  // valid above the limit
  Use(0xfff, kExpandDown, kByte32);
  EXPECT_TRAP(Try([] { ReadFs(0xfff); }), kGP, 0);
  EXPECT_NO_TRAP(Try([] { ReadFs(0x1000); }));
  EXPECT_NO_TRAP(Try([] { ReadFs(0x10000); }));
  Use(0xfff, kExpandDown, kByte16);  // up to FFFFH
  EXPECT_NO_TRAP(Try([] { ReadFs(0xffff); }));
  EXPECT_TRAP(Try([] { ReadFs4(0xfffd); }), kGP, 0);
  EXPECT_TRAP(Try([] { ReadFs(0x10000); }), kGP, 0);

  Section("types");
  Use(0xffff, kReadOnly, kByte32);
  EXPECT_NO_TRAP(Try([] { ReadFs(0); }));
  EXPECT_TRAP(Try([] { WriteFs(0); }), kGP, 0);
  Use(0xffff, kExecuteRead, kByte32);
  EXPECT_NO_TRAP(Try([] { ReadFs(0); }));
  EXPECT_TRAP(Try([] { WriteFs(0); }), kGP, 0);
  SetSegment(kSeg, Address(data), 0xffff, kExecuteOnly, kByte32);
  EXPECT_TRAP(Try([] { LoadFs(kSeg); }), kGP, kSeg);
  in_use = 0;
  EXPECT_TRAP(Try([] { ReadFs(0); }), kGP, 0);  // null
  EXPECT_TRAP(Try([] { asm volatile("movb $1, %cs:0x100000"); }), kGP, 0);

  Section("accessed bit");
  Use(0xffff, kReadWrite & ~1, kByte32);
  LoadFs(in_use);
  EXPECT_EQ(DescriptorType(kSeg), kReadWrite);

  Section("stack segment");
  SetSegment(kSeg, 0, 0xfff, kReadWrite, kByte32);
  EXPECT_TRAP(Try([] {
                uint32_t value;
                asm volatile("mov %1, %%fs\n mov %%ss:0xffffffff, %0\n"
                             : "=r"(value)
                             : "r"(uint32_t{kSeg}));
              }),
              kSS, 0);  // four bytes that wrap around 4 GiB
}

extern "C" {
void UserLoads();
void UserCallGate();
void UserConforming();
void GateTarget();
void GateTarget16();
void Conforming();
extern volatile uint32_t gate_stack[8], gate_esp, gate_cs;
extern const char short_code[], short_code_second[];
}
volatile uint32_t gate_stack[8], gate_esp, gate_cs;
asm(R"(
    .global UserLoads, UserCallGate, UserConforming, GateTarget, GateTarget16, Conforming
UserLoads:                      # EDI: what to load into FS
    mov %edi, %fs
    int $0x80
UserCallGate:
    push $0x33333333
    push $0x22222222
    push $0x11111111
    mov %esp, %ebx
    lcall $0x53, $0
    mov %esp, %esi
    int $0x80
GateTarget:
    mov %esp, gate_esp
    mov %cs, gate_cs
    xor %ecx, %ecx
1:  mov %ss:(%esp, %ecx, 4), %eax
    mov %eax, %ss:gate_stack(, %ecx, 4)
    inc %ecx
    cmp $7, %ecx
    jne 1b
    lret $12
GateTarget16:
    mov %esp, gate_esp
    xor %ecx, %ecx
1:  mov %ss:(%esp, %ecx, 2), %ax
    movzwl %ax, %eax
    mov %eax, %ss:gate_stack(, %ecx, 4)
    inc %ecx
    cmp $7, %ecx
    jne 1b
    int $0x80                   # its frame has 16 bits of an EIP beyond them
UserConforming:
    ljmp $0x5b, $Conforming
Conforming:
    mov %cs, %eax
    int $0x80

    .balign 16
    .global short_code, short_code_second
short_code:
    nop
short_code_second:
    mov $0x12345678, %eax
    nop
)");

template <class F>
const void* Code(F* function) {
  return reinterpret_cast<const void*>(function);
}

void Privileges() {
  Section("data privileges");
  EXPECT_TRAP(RunUser(Code(UserLoads), 2, kData), kGP, kData);
  EXPECT_TRAP(RunUser(Code(UserLoads), 2, kUserData), 0x80, 0);
  EXPECT_TRAP(RunUser(Code(UserLoads), 2, kNotPresent | 3), kGP, kNotPresent);
  SetSegment(kSeg, 0, 0xfffff, kReadWrite & ~0x80, kPage32);
  EXPECT_TRAP(Try([] { LoadFs(kSeg); }), kNP, kSeg);
  SetSegment(kSeg, 0, 0xfffff, kConforming, kPage32);  // code that anyone may read
  EXPECT_TRAP(RunUser(Code(UserLoads), 2, kSeg | 3), 0x80, 0);
  EXPECT_TRAP(Try([] { LoadFs(kData | 3); }), kGP, kData);  // RPL counts too

  Section("LAR LSL VERR VERW ARPL");
  SetSegment(kSeg, 0, 0x12345, kReadOnly, kByte32);
  uint32_t value = 0;
  bool good;
  asm("lar %2, %0" : "=r"(value), "=@ccz"(good) : "r"(uint32_t{kSeg}));
  EXPECT(good);
  EXPECT_EQ(value & 0xf0ff00, 0x409100);
  asm("lsl %2, %0" : "=r"(value), "=@ccz"(good) : "r"(uint32_t{kSeg}));
  EXPECT(good);
  EXPECT_EQ(value, 0x12345);
  asm("verr %w1" : "=@ccz"(good) : "r"(uint32_t{kSeg}));
  EXPECT(good);
  asm("verw %w1" : "=@ccz"(good) : "r"(uint32_t{kSeg}));
  EXPECT(!good);
  asm("lar %2, %0" : "=r"(value), "=@ccz"(good) : "r"(uint32_t{0x1f8}));
  EXPECT(!good);
  uint32_t selector = 0x10;
  asm("arpl %w2, %w0" : "+r"(selector), "=@ccz"(good) : "r"(3));
  EXPECT(good);
  EXPECT_EQ(selector, 0x13);
}

void CallGates() {
  Section("call gates");
  SetGate(kGate, kCode, Address(Code(GateTarget)), kCallGate32 | kDpl3, 3);
  Trap trap = RunUser(Code(UserCallGate));
  EXPECT_TRAP(trap, 0x80, 0);
  EXPECT_EQ(gate_cs, kCode);
  EXPECT_EQ(gate_stack[0], Address(Code(UserCallGate)) + 24);  // EIP
  EXPECT_EQ(gate_stack[1], kUserCode);
  EXPECT_EQ(gate_stack[2], 0x11111111);
  EXPECT_EQ(gate_stack[3], 0x22222222);
  EXPECT_EQ(gate_stack[4], 0x33333333);
  EXPECT_EQ(gate_stack[5], trap.frame.ebx);
  EXPECT_EQ(gate_stack[6], kUserData);
  EXPECT_EQ(gate_esp, tss.esp0 - 28);
  EXPECT_EQ(trap.frame.esi, trap.frame.ebx + 12);  // RET 12 released both copies
  EXPECT_EQ(trap.cs, kUserCode);

  // 16 bits wide: words are pushed and copied.
  SetSegment(kTarget, Address(Code(GateTarget16)) & ~0xfffu, 0xffff, kExecuteRead, kByte32);
  SetGate(kGate, kTarget, Address(Code(GateTarget16)) & 0xfff, kCallGate16 | kDpl3, 3);
  trap = RunUser(Code(UserCallGate));
  EXPECT_TRAP(trap, 0x80, 0);
  EXPECT_EQ(gate_stack[1], kUserCode);
  EXPECT_EQ(gate_stack[2], 0x1111);
  EXPECT_EQ(gate_stack[3], 0x1111);
  EXPECT_EQ(gate_stack[4], 0x2222);
  EXPECT_EQ(gate_stack[5], trap.frame.ebx & 0xffff);
  EXPECT_EQ(gate_stack[6], kUserData);
  EXPECT_EQ(gate_esp, tss.esp0 - 14);

  Section("faults of call gates");
  const auto gate = [](uint16_t target, uint32_t offset, unsigned access, uint8_t vector,
                       uint32_t error, int line) {
    SetGate(kGate, target, offset, access, 0);
    const Trap fault = RunUser(Code(UserCallGate));
    ExpectEqual(fault.vector, vector, "segments.cc", line, "vector");
    ExpectEqual(fault.error, error, "segments.cc", line, "error");
  };
  const uint32_t target = Address(Code(GateTarget));
  gate(kCode, target, kCallGate32, kGP, kGate, __LINE__);  // its DPL
  gate(kCode, target, (kCallGate32 | kDpl3) & ~0x80, kNP, kGate, __LINE__);
  gate(0, target, kCallGate32 | kDpl3, kGP, 0, __LINE__);
  gate(kData, target, kCallGate32 | kDpl3, kGP, kData, __LINE__);
  gate(0x1fc, target, kCallGate32 | kDpl3, kGP, 0x1fc, __LINE__);  // in the LDT
  SetSegment(kTarget, 0, 0xfffff, kExecuteRead & ~0x80, kPage32);
  gate(kTarget, target, kCallGate32 | kDpl3, kNP, kTarget, __LINE__);
  SetSegment(kTarget, 0, 0xfff, kExecuteRead, kByte32);
  if (!UnderTcg()) gate(kTarget, target, kCallGate32 | kDpl3, kGP, 0, __LINE__);  // its limit

  Section("inner stacks");
  // A bad one of the TSS is #TS, too little room or one that is not present #SS. The handler runs
  // at CPL 0 on another, so this is about the stack of level 1.
  if (!UnderTcg()) {
    tss.esp1 = 0x10;
    tss.ss1 = kStack | 1;
    SetSegment(kStack, Address(data), 0x7fff, kReadWrite | 0x20, kByte32);
    SetSegment(kTarget, 0, 0xfffff, kExecuteRead | 0x20, kPage32);  // DPL 1
    SetGate(kGate, kTarget | 1, target, kCallGate32 | kDpl3, 3);
    EXPECT_TRAP(RunUser(Code(UserCallGate)), kSS, kStack);  // 28 bytes do not fit
    tss.ss1 = kStack;
    EXPECT_TRAP(RunUser(Code(UserCallGate)), kTS, kStack);  // RPL
    tss.ss1 = 0;
    EXPECT_TRAP(RunUser(Code(UserCallGate)), kTS, 0);
    tss.ss1 = (kStack | 1) + 8;
    SetSegment(kStack + 8, Address(data), 0x7fff, (kReadWrite | 0x20) & ~0x80, kByte32);
    EXPECT_TRAP(RunUser(Code(UserCallGate)), kSS, kStack + 8);
  }
}

void Code() {
  Section("conforming code");
  SetSegment(kTarget, 0, 0xfffff, kConforming, kPage32);  // DPL 0
  const Trap trap = RunUser(Code(UserConforming));
  EXPECT_TRAP(trap, 0x80, 0);
  EXPECT_EQ(trap.frame.eax, kTarget | 3);  // CPL stays 3
  SetSegment(kTarget, 0, 0xfffff, kExecuteRead, kPage32);
  EXPECT_TRAP(RunUser(Code(UserConforming)), kGP, kTarget);

  if (UnderTcg()) return Skip("limits of code (QEMU TCG does not check them)");
  Section("limit of code");
  const auto run = [] { asm volatile("ljmp %0, $0" : : "i"(kTarget)); };
  SetSegment(kTarget, Address(short_code), 5, kExecuteRead, kByte32);  // NOP and the MOV
  Trap end = Try(run);
  EXPECT_TRAP(end, kGP, 0);
  EXPECT_EQ(end.eip, 6);
  EXPECT_EQ(end.frame.eax, 0x12345678);
  SetSegment(kTarget, Address(short_code), 4, kExecuteRead, kByte32);  // the MOV sticks out
  end = Try(run);
  EXPECT_TRAP(end, kGP, 0);
  EXPECT_EQ(end.eip, 1);
  EXPECT_TRAP(Try([] { asm volatile("ljmp %0, $5" : : "i"(kTarget)); }), kGP, 0);

  Section("16-bit code");
  // 8 bits of displacement on IP, which is 16 bits wide.
  data[0] = 0xeb;  // JMP -3: to FFFFH
  data[1] = 0xfd;
  data[0xffff] = 0xf4;  // HLT
  SetSegment(kTarget, Address(data), 0xffff, kExecuteRead, kByte16);
  SetSegment(kTarget + 8, Address(data), 0xffff, kExecuteRead | kDpl3, kByte16);
  const Trap wrapped = Try([] {
    asm volatile("push $0x23\n push %%esp\n push $2\n push %0\n push $0\n iret" : : "i"(0x63));
  });
  EXPECT_TRAP(wrapped, kGP, 0);
  EXPECT_EQ(wrapped.eip, 0xffff);
  EXPECT_EQ(wrapped.cs, 0x63);
}

void Priorities() {
  Section("gates of the IDT");
  // vector * 8 + 2, EXT only for what no INT caused. [SDM 3A] 6.13
  SetIdtGate(0x40, kCode, 0, kInterruptGate32 & ~0x80);
  EXPECT_TRAP(Try([] { asm volatile("int $0x40"); }), kNP, 0x40 * 8 + 2);
  SetIdtGate(kUD, kCode, 0, kInterruptGate32 & ~0x80);
  EXPECT_TRAP(Try([] { asm volatile("ud2"); }), kNP, kUD * 8 + 2 + (UnderTcg() ? 0 : 1));
  SetIdtGate(kUD, kData, 0, kInterruptGate32);
  EXPECT_TRAP(Try([] { asm volatile("ud2"); }), kGP, kData + (UnderTcg() ? 0 : 1));
  SetIdtGate(kUD, 0, 0, kInterruptGate32);
  EXPECT_TRAP(Try([] { asm volatile("ud2"); }), kGP, UnderTcg() ? 0 : 1);
  ResetIdtGate(kUD);
  // A contributory fault on the way of another is #DF.
  SetIdtGate(kGP, kCode, 0, kInterruptGate32 & ~0x80);
  EXPECT_TRAP(Try([] { LoadFs(0x1f0); }), kDF, 0);
  ResetIdtGate(kGP);
  // Trap gates leave IF alone, interrupt gates clear it; both clear NT and TF.
  static uint32_t flags;
  SetHandler(0x40, [](Frame&) { flags = Flags(); });
  ResetIdtGate(0x40, kTrapGate32);
  asm volatile(
      "pushf\n orl $0x4000, (%%esp)\n popf\n int $0x40\n pushf\n andl $~0x4000, (%%esp)\n"
      "popf"
      :
      :
      : "memory", "cc");
  EXPECT_EQ(flags & kNT, 0);
  ResetIdtGate(0x40);
  SetHandler(0x40, nullptr);
}

}  // namespace

void GuestMain() {
  Limits();
  Privileges();
  CallGates();
  Code();
  Priorities();
}
