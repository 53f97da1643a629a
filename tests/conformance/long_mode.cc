// 64-bit mode and the ways in and out of it. [SDM 3A] 5.8, 6.14; [SDM 1] 3.4, 6.4
#include "lib/apic.h"
#include "lib/guest.h"

using namespace guest;

namespace {

void Registers() {
  Section("registers");
  EXPECT_EQ(ReadMsr(0xc0000080) & 0x500, 0x500);  // EFER: LME, LMA
  EXPECT(Cpuid(0x80000001).edx & (1u << 29));     // LM
  uint64_t value = ~0ull;
  asm volatile("mov $1, %k0" : "+r"(value));
  EXPECT_EQ(value, 1);  // 32-bit results are zero-extended. [SDM 1] 3.4.1.1
  value = ~0ull;
  asm volatile("mov $1, %w0" : "+r"(value));
  EXPECT_EQ(value, 0xffffffffffff0001);
  value = ~0ull;
  asm volatile("mov $1, %b0" : "+r"(value));
  EXPECT_EQ(value, 0xffffffffffffff01);
  uint64_t r15 = 0;
  asm volatile("mov $0x1122334455667788, %%r15\n mov %%r15, %0" : "=r"(r15) : : "r15");
  EXPECT_EQ(r15, 0x1122334455667788);
  uint64_t relative = 0, absolute = 0;
  asm volatile("lea 1f(%%rip), %0\n 1: mov $1b, %1" : "=&r"(relative), "=&r"(absolute));
  EXPECT_EQ(relative, absolute);
}

void Segments() {
  Section("segments");
  // Bases of ES, CS, SS and DS are zero whatever the descriptor says; FS and GS have theirs.
  static volatile uint64_t marks[2] = {0x1111, 0x2222};
  const auto address = reinterpret_cast<uint64_t>(&marks[0]);
  uint64_t read = 0;
  WriteMsr(0xc0000100, address);      // FS.base
  WriteMsr(0xc0000101, address + 8);  // GS.base
  asm volatile("mov %%fs:0, %0" : "=r"(read));
  EXPECT_EQ(read, 0x1111);
  asm volatile("mov %%gs:0, %0" : "=r"(read));
  EXPECT_EQ(read, 0x2222);
  WriteMsr(0xc0000102, address);  // KernelGSbase
  asm volatile("swapgs\n mov %%gs:0, %0\n swapgs" : "=r"(read));
  EXPECT_EQ(read, 0x1111);
  EXPECT_EQ(ReadMsr(0xc0000102), address);
  if (!UnderTcg())
    EXPECT_TRAP(Try([] { WriteMsr(0xc0000100, 0x800000000000); }), kGP, 0);  // not canonical
  // Loading a selector loads a base from the descriptor. [SDM 3A] 3.4.4
  asm volatile("mov %0, %%fs" : : "r"(kData));
  EXPECT_EQ(ReadMsr(0xc0000100), 0);
}

void Canonical() {
  Section("canonical addresses");
  EXPECT_TRAP(Try([] { ReadMemory<uint8_t>(0x800000000000); }), kGP, 0);
  EXPECT_TRAP(Try([] { ReadMemory<uint8_t>(0xffff7fffffffffff); }), kGP, 0);
  EXPECT_TRAP(Try([] { asm volatile("jmp *%0" : : "r"(0x800000000000)); }), kGP, 0);
  if (UnderTcg()) return;
  // An access through RSP or RBP is a stack fault. [SDM 1] 3.3.7.1
  EXPECT_TRAP(Try([] {
                asm volatile(
                    "mov %%rbp, %%rcx\n mov %0, %%rbp\n mov (%%rbp), %%al\n mov %%rcx, %%rbp"
                    :
                    : "r"(0x800000000000)
                    : "rax", "rcx");
              }),
              kSS, 0);
}

// A transfer faults before it is made: RIP and RSP are those of the instruction, and a call has
// stored nothing. Also when it has gone elsewhere often enough to be translated. [SDM 2A] CALL
template <class Transfer>
void ExpectUnmade(Transfer transfer, uint64_t good) {
  uint64_t at = 0, rsp = 0, to = good;
  const auto body = [&] { transfer(to, at, rsp); };  // one copy of it
  for (unsigned i = 0; i < 20; ++i) EXPECT_NO_TRAP(Try(body));
  for (uint64_t bad : {0x800000000000, 0x12345678'00000000}) {
    to = bad;
    const Trap trap = Try(body);
    EXPECT_TRAP(trap, kGP, 0);
    EXPECT_EQ(trap.rip, at);
    EXPECT_EQ(trap.frame.rsp, rsp);
  }
}

void TransfersToNoAddress() {
  if (UnderTcg()) return;
  uint64_t just_return, land;
  asm volatile("lea 1f(%%rip), %0\n jmp 2f\n 1: ret\n 2:" : "=r"(just_return));
  Section("CALL to no canonical address");
  const auto call = [](uint64_t to, uint64_t& at, uint64_t& rsp) {
    asm volatile("lea 1f(%%rip), %%rcx\n mov %%rcx, %[at]\n mov %%rsp, %[rsp]\n 1: call *%%rax"
                 : [at] "=m"(at), [rsp] "=m"(rsp)
                 : "a"(to)
                 : "rcx", "memory");
  };
  ExpectUnmade(call, just_return);
  Section("JMP to no canonical address");
  asm volatile("lea 1f(%%rip), %0\n jmp 2f\n 1: jmp *%%rdx\n 2:" : "=r"(land));
  const auto jump = [](uint64_t to, uint64_t& at, uint64_t& rsp) {
    asm volatile(
        "lea 1f(%%rip), %%rcx\n mov %%rcx, %[at]\n mov %%rsp, %[rsp]\n lea 2f(%%rip), %%rdx\n"
        "1: jmp *%%rax\n 2:"
        : [at] "=m"(at), [rsp] "=m"(rsp)
        : "a"(to)
        : "rcx", "rdx", "memory");
  };
  ExpectUnmade(jump, land);
  Section("RET to no canonical address");
  const auto ret = [](uint64_t to, uint64_t& at, uint64_t& rsp) {
    asm volatile(
        "lea 1f(%%rip), %%rcx\n mov %%rcx, %[at]\n lea -8(%%rsp), %%rcx\n mov %%rcx, %[rsp]\n"
        "lea 2f(%%rip), %%rdx\n push %%rax\n 1: ret\n 2:"
        : [at] "=m"(at), [rsp] "=m"(rsp)
        : "a"(to)
        : "rcx", "rdx", "memory");
  };
  ExpectUnmade(ret, land);
}

void Strings() {
  Section("string instructions");
  static uint8_t from[64], to[64];
  for (unsigned i = 0; i < 64; ++i) from[i] = static_cast<uint8_t>(i + 1);
  void *d = to, *s = from;
  uint64_t count = 64;
  asm volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(count) : : "memory");
  EXPECT_EQ(count, 0);
  EXPECT_EQ(to[0], 1);
  EXPECT_EQ(to[63], 64);
  EXPECT_EQ(static_cast<uint8_t*>(d) - to, 64);
  // Backwards, eight bytes at a time.
  d = to + 56;
  count = 8;
  asm volatile("std\n rep stosq\n cld" : "+D"(d), "+c"(count) : "a"(0x0807060504030201) : "memory");
  EXPECT_EQ(to[0], 1);
  EXPECT_EQ(to[63], 8);
  EXPECT_EQ(static_cast<uint8_t*>(d) - to, -8);
  s = from;
  count = 64;
  asm volatile("repne scasb" : "+D"(s), "+c"(count) : "a"(10) : "memory", "cc");
  EXPECT_EQ(count, 54);
}

// --- Compatibility mode. ---
asm(R"(
    .code32
compat_function:
    mov   $-1, %eax
    inc   %eax                  # in 64-bit mode this byte (40h) would be a prefix
    mov   %esp, compat_esp
    int3
    mov   $0x32323232, %eax
    lret
    .code64
    .bss
compat_esp: .skip 4
    .text
)");
extern "C" const char compat_function[];

uint64_t compat_cs, compat_rax;

void CompatibilityMode() {
  Section("compatibility mode");
  SetHandler(kBP, [](Frame& frame) {
    compat_cs = frame.cs;
    compat_rax = frame.rax;
  });
  struct [[gnu::packed]] {
    uint32_t offset;
    uint16_t selector;
  } pointer = {static_cast<uint32_t>(reinterpret_cast<uint64_t>(compat_function)), kCode32};
  uint64_t result = 0;
  const Trap trap = Try([&] {
    // A return to user code has emptied DS, which this mode checks. [SDM 3A] 5.8.6
    asm volatile("mov %2, %%ds\n lcall *%1\n mov %%rax, %0"
                 : "=r"(result)
                 : "m"(pointer), "r"(0x10)
                 : "rax", "memory");
  });
  EXPECT_NO_TRAP(trap);
  SetHandler(kBP, nullptr);
  EXPECT_EQ(compat_cs, kCode32);
  EXPECT_EQ(compat_rax, 0);
  EXPECT_EQ(result & 0xffffffff, 0x32323232);
}

// --- User mode, SYSCALL, INT. ---
USER_CODE(R"(
    .global user_syscall, user_int
user_syscall:
    mov   %rdi, %rax
    std
    syscall
user_after_syscall:
    mov   %rsp, %rsi
    int   $0x80
    .global user_after_syscall
user_int:
    mov   $0x5555, %eax
    int   $0x80
)");
asm(R"(
syscall_entry:
    mov   %rcx, syscall_rcx
    mov   %r11, syscall_r11
    pushf                       # on the user's stack, which is mapped
    pop   %r10
    mov   %r10, syscall_flags
    mov   %ss, syscall_ss
    mov   %cs, syscall_cs
    add   $1, %rax
    sysretq
    .bss
    .balign 8
    .global syscall_rcx, syscall_r11, syscall_flags, syscall_ss, syscall_cs
syscall_rcx: .skip 8
syscall_r11: .skip 8
syscall_flags: .skip 8
syscall_ss: .skip 8
syscall_cs: .skip 8
    .text
)");
extern "C" {
extern const char user_syscall[], user_after_syscall[], user_int[], syscall_entry[];
extern volatile uint64_t syscall_rcx, syscall_r11, syscall_flags, syscall_ss, syscall_cs;
}

void UserMode() {
  Section("user mode");
  const Trap trap = RunUser(user_int);
  EXPECT_TRAP(trap, 0x80, 0);
  EXPECT_EQ(trap.cs, kUserCode64);
  EXPECT_EQ(trap.frame.ss, kUserData);
  EXPECT_EQ(trap.frame.rsp, WindowPage(511) + 4096);
  EXPECT_EQ(trap.frame.rax, 0x5555);
  EXPECT_EQ(trap.rip, UserAddress(user_int) + 7);
}

void Syscall() {
  Section("SYSCALL and SYSRET");  // [SDM 2B] SYSCALL, SYSRET
  WriteMsr(0xc0000081, uint64_t{0x2b} << 48 | uint64_t{kCode64} << 32);
  WriteMsr(0xc0000082, reinterpret_cast<uint64_t>(syscall_entry));
  WriteMsr(0xc0000084, 0x400);  // SFMASK: DF
  const Trap trap = RunUser(user_syscall, 41);
  EXPECT_TRAP(trap, 0x80, 0);
  EXPECT_EQ(trap.frame.rax, 42);
  EXPECT_EQ(syscall_rcx, UserAddress(user_after_syscall));
  EXPECT_EQ(syscall_r11 & 0x400, 0x400);
  EXPECT_EQ(syscall_flags & 0x400, 0);
  EXPECT_EQ(syscall_cs & 0xffff, kCode64);
  EXPECT_EQ(syscall_ss & 0xffff, kData);
  EXPECT_EQ(trap.cs, kUserCode64);
  EXPECT_EQ(trap.frame.ss, kUserData);
  EXPECT_EQ(trap.rflags & 0x400, 0x400);              // restored from R11
  WriteMsr(0xc0000080, ReadMsr(0xc0000080) & ~1ull);  // without EFER.SCE
  EXPECT_TRAP(RunUser(user_syscall), kUD, 0);
  WriteMsr(0xc0000080, ReadMsr(0xc0000080) | 1);
}

uint64_t stack_of_frame;

void InterruptStacks() {
  Section("interrupt stacks");  // [SDM 3A] 6.14.2, 6.14.5
  SetHandler(0x90, [](Frame& frame) { stack_of_frame = reinterpret_cast<uint64_t>(&frame + 1); });
  // Without a change of privilege the stack stays, aligned to 16 bytes.
  for (unsigned offset = 0; offset < 16; offset += 4) {
    uint64_t rsp = 0;
    asm volatile("mov %%rsp, %%rbx\n sub %1, %%rsp\n mov %%rsp, %0\n int $0x90\n mov %%rbx, %%rsp"
                 : "=&r"(rsp)
                 : "r"(uint64_t{offset} + 256)
                 : "rbx", "memory");
    EXPECT_EQ(stack_of_frame, rsp & ~15ull);
  }
  SetGateStack(0x90, 1);
  asm volatile("int $0x90" : : : "memory");
  EXPECT_EQ(stack_of_frame, GateStackTop());
  SetGateStack(0x90, 0);
  SetHandler(0x90, nullptr);
}

void TaskPriority() {
  Section("CR8");  // [SDM 3A] 10.8.6.1
  EnableApic();
  WriteCr8(5);
  EXPECT_EQ(ReadCr8(), 5);
  EXPECT_EQ(ReadApic(Apic::TPR), 0x50);
  WriteApic(Apic::TPR, 0x37);
  EXPECT_EQ(ReadCr8(), 3);
  WriteCr8(0);
  if (!UnderTcg()) EXPECT_TRAP(Try([] { WriteCr8(16); }), kGP, 0);
}

void Wide() {
  Section("CMPXCHG16B");
  if ((Cpuid(1).ecx & (1u << 13)) == 0) return Skip("CMPXCHG16B");
  alignas(16) static volatile uint64_t pair[2] = {1, 2};
  uint64_t low = 1, high = 2;
  bool equal = false;
  const Trap trap = Try([&] {
    asm volatile("lock cmpxchg16b %0"
                 : "+m"(*reinterpret_cast<volatile unsigned __int128*>(pair)), "+a"(low),
                   "+d"(high), "=@ccz"(equal)
                 : "b"(3ull), "c"(4ull)
                 : "memory");
  });
  EXPECT_NO_TRAP(trap);
  EXPECT(equal);
  EXPECT_EQ(pair[0], 3);
  EXPECT_EQ(pair[1], 4);
  EXPECT_TRAP(Try([] {
                asm volatile("cmpxchg16b 8(%0)"
                             :
                             : "r"(reinterpret_cast<uint64_t>(pair)), "a"(0), "d"(0)
                             : "memory");
              }),
              kGP, 0);  // not aligned
}

void Vectors() {
  Section("SSE2");
  alignas(16) static uint32_t values[8] = {1, 2, 3, 4, 10, 20, 30, 40};
  asm volatile(
      "movdqa (%0), %%xmm0\n movdqu 16(%0), %%xmm9\n paddd %%xmm9, %%xmm0\n movdqa %%xmm0, (%0)"
      :
      : "r"(values)
      : "memory");
  EXPECT_EQ(values[0], 11);
  EXPECT_EQ(values[3], 44);
  EXPECT_TRAP(Try([] { asm volatile("movdqa 4(%0), %%xmm0" : : "r"(values)); }), kGP, 0);

  // Often enough to be translated; CPUID takes the registers away from translated code and back.
  Section("vector and x87 registers in a loop");
  alignas(16) static uint32_t sums[4];
  static double squares = 0;
  uint64_t turns = 100;
  asm volatile(
      "fninit\n fldz\n fld1\n pxor %%xmm3, %%xmm3\n pcmpeqd %%xmm12, %%xmm12\n"
      "1: psubd %%xmm12, %%xmm3\n"
      "fld %%st(0)\n fmul %%st(1), %%st\n faddp %%st, %%st(2)\n fld1\n faddp %%st, %%st(1)\n"
      "xor %%eax, %%eax\n xor %%ecx, %%ecx\n cpuid\n"
      "movdqa %%xmm3, %[sums]\n"
      "dec %[turns]\n jnz 1b\n"
      "fstp %%st(0)\n fstpl %[squares]"
      : [turns] "+r"(turns), [sums] "=m"(sums), [squares] "=m"(squares)
      :
      : "rax", "rbx", "rcx", "rdx", "memory");
  for (uint32_t sum : sums) EXPECT_EQ(sum, 100);
  uint64_t bits;
  __builtin_memcpy(&bits, &squares, 8);
  EXPECT_EQ(bits, 0x4114a6b800000000);  // 338350: 1 + 4 + 9 to 100 * 100
}

void Xsave() {
  Section("XSAVE");  // [SDM 1] 13.3
  if ((Cpuid(1).ecx & (1u << 26)) == 0) return Skip("XSAVE");
  EXPECT_EQ(Cpuid(1).ecx >> 27 & 1, 0);  // OSXSAVE
  EXPECT_TRAP(Try([] { asm volatile("xgetbv" : : "c"(0) : "rax", "rdx"); }), kUD, 0);
  WriteCr4(ReadCr4() | 1u << 18);
  EXPECT_EQ(Cpuid(1).ecx >> 27 & 1, 1);
  uint32_t low = 0, high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  EXPECT_EQ(low, 1);  // x87 only, after reset
  asm volatile("xsetbv" : : "c"(0), "a"(3), "d"(0));
  EXPECT_EQ(Cpuid(0xd).ebx, 576);  // [SDM 1] 13.4: legacy region and header
  EXPECT_TRAP(Try([] { asm volatile("xsetbv" : : "c"(0), "a"(2), "d"(0)); }), kGP, 0);
  alignas(64) static uint8_t area[4096];
  asm volatile("xsave (%0)" : : "r"(area), "a"(3), "d"(0) : "memory");
  EXPECT_EQ(area[512] & ~3, 0);
  asm volatile("xrstor (%0)" : : "r"(area), "a"(3), "d"(0) : "memory");
  area[520] = 1;  // XCOMP_BV must be zero in the standard form
  EXPECT_TRAP(Try([] {
                asm volatile("xrstor (%0)" : : "r"(area), "a"(3), "d"(0) : "memory");
              }),
              kGP, 0);
}

}  // namespace

void GuestMain() {
  Registers();
  Segments();
  Canonical();
  TransfersToNoAddress();
  Strings();
  UserMode();
  Syscall();
  InterruptStacks();
  CompatibilityMode();
  TaskPriority();
  Wide();
  Vectors();
  Xsave();
}
