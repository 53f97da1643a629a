// SYSCALL, SYSRET, SWAPGS, STAC, CLAC and POP RSP where a translator has them in its own code:
// often enough to be there, then each condition under which they do something else. [SDM 2B]
// SYSCALL, SYSRET, SWAPGS, STAC; [SDM 2A] CLAC; [SDM 3A] 5.8.8
#include "lib/apic.h"
#include "lib/guest.h"

using namespace guest;

namespace {

constexpr uint64_t kTF = 0x100, kIF = 0x200, kDF = 0x400, kRF = 0x10000, kVM = 0x20000,
                   kAcFlag = 0x40000, kSmap = 1 << 21;
constexpr uint64_t kRounds = 100;

uint64_t At(const void* code) {
  return reinterpret_cast<uint64_t>(code);
}

// RDI: rounds, each with other arithmetic flags, which must survive; then one more call, for which
// the kernel adds RSI to RFLAGS (user_flags) or returns to RSI (user_target).
USER_CODE(R"(
    .global user_flags, user_flags_call, user_flags_after, user_target, user_swapgs, user_stac
    .global user_clac, user_calls_call
user_calls:
    xor   %r8d, %r8d
    xor   %r9d, %r9d
1:  mov   %edi, %eax
    shl   $8, %eax
    sahf
    pushf
    pop   %rbx
user_calls_call:
    syscall
    pushf
    pop   %rdx
    cmp   %rbx, %rdx
    jne   2f
    dec   %edi
    jnz   1b
    ret
2:  ud2
user_flags:
    call  user_calls
    mov   %rsi, %r8
user_flags_call:
    syscall
user_flags_after:
    nop
    int   $0x80
user_target:
    call  user_calls
    mov   %rsi, %r9
    syscall
    int   $0x80
user_swapgs:
    swapgs
    mov   %gs:0, %rax
    ret
user_stac:
    stac
    mov   (%rdi), %eax
    ret
user_clac:
    clac
    mov   (%rdi), %eax
    ret
)");
asm(R"(
call_entry:
    mov   %r11, call_r11
    mov   %cs, call_cs
    mov   %ss, call_ss
    mov   %rsp, %r10
    mov   $call_stack, %rsp
    pushf
    popq  call_flags
    cmpb  $0, call_touches
    je    1f
    mov   -8(%r10), %rdx        # the user's page
1:  mov   %r10, %rsp
    or    %r8, %r11
    test  %r9, %r9
    cmovnz %r9, %rcx
    incq  call_count
    jmp   call_sysret
    .global call_sysret
call_sysret:
    sysretq
    .bss
    .balign 16
    .skip 1024
call_stack: .skip 8
    .global call_r11, call_cs, call_ss, call_flags, call_count, call_touches
call_r11: .skip 8
call_cs: .skip 8
call_ss: .skip 8
call_flags: .skip 8
call_count: .skip 8
call_touches: .skip 8
    .text
)");
extern "C" {
extern const char user_flags[], user_flags_call[], user_flags_after[], user_target[],
    user_calls_call[], user_swapgs[], user_stac[], user_clac[], call_entry[], call_sysret[];
extern volatile uint64_t call_r11, call_cs, call_ss, call_flags, call_count;
extern volatile uint8_t call_touches;
}

bool Intel() {
  return Cpuid(0).ebx == 0x756e6547;  // "Genu"
}
bool HasSmap() {
  return Cpuid(0).eax >= 7 && (Cpuid(7).ebx & (1u << 20));
}

void SetMask(uint64_t mask) {
  WriteMsr(0xc0000084, mask);
}

void Calls() {
  Section("calls");
  WriteMsr(0xc0000081, uint64_t{kUserCode32} << 48 | uint64_t{kCode64} << 32);
  WriteMsr(0xc0000082, At(call_entry));
  SetMask(kDF | kIF | 0x8d5);
  const Trap trap = RunUser(user_flags, kRounds, kDF, 2);
  EXPECT_TRAP(trap, 0x80, 0);
  EXPECT_EQ(call_count, kRounds + 1);
  EXPECT_EQ(call_cs, kCode64);
  EXPECT_EQ(call_ss, kData);
  EXPECT_EQ(call_flags & (kDF | kIF | 0x8d5), 0);
  EXPECT_EQ(trap.cs, kUserCode64);
  EXPECT_EQ(trap.frame.ss, kUserData);
  EXPECT_EQ(trap.rflags & kDF, kDF);
  EXPECT_EQ(trap.frame.rcx, UserAddress(user_flags_after));
  EXPECT_EQ(trap.frame.r11, call_r11 | kDF);
  // What the mask leaves, the kernel finds.
  SetMask(0);
  EXPECT_TRAP(RunUser(user_flags, kRounds, 0, 2 | kDF), 0x80, 0);
  EXPECT_EQ(call_flags, call_r11);
  EXPECT_EQ(call_flags & kDF, kDF);
  if (UnderTcg()) return;
  // RF and VM are not taken from R11.
  const Trap masked = RunUser(user_flags, kRounds, kRF | kVM, 2);
  EXPECT_TRAP(masked, 0x80, 0);
  EXPECT_EQ(masked.rflags & (kRF | kVM), 0);
}

void Disabled() {
  Section("without EFER.SCE");
  WriteMsr(0xc0000080, ReadMsr(0xc0000080) & ~1ull);
  const Trap call = RunUser(user_flags, 1);
  EXPECT_TRAP(call, kUD, 0);
  EXPECT_EQ(call.rip, UserAddress(user_calls_call));
  const Trap back = Try([] { asm volatile("jmp call_sysret"); });
  EXPECT_TRAP(back, kUD, 0);
  EXPECT_EQ(back.rip, At(call_sysret));
  WriteMsr(0xc0000080, ReadMsr(0xc0000080) | 1);
}

void OddReturns() {
  Section("odd returns");
  SetMask(kIF | kTF);
  if (!UnderTcg()) {
    // Intel's SYSRET faults in the kernel, AMD's at the target.
    const Trap far = RunUser(user_target, kRounds, 0x800000000000);
    EXPECT_TRAP(far, kGP, 0);
    EXPECT_EQ(far.cs, Intel() ? kCode64 : kUserCode64);
    EXPECT_EQ(far.rip, Intel() ? At(call_sysret) : 0x800000000000);
    const Trap step = RunUser(user_flags, kRounds, kTF);
    EXPECT_TRAP(step, kDB, 0);
    EXPECT_EQ(step.rip, UserAddress(user_flags_after));
  }
}

volatile uint64_t interrupted_rip;

void PendingInterrupt() {
  Section("an interrupt waits for SYSRET");
  EnableApic();
  SetMask(kIF);
  interrupted_rip = 0;
  SetHandler(0x90, [](Frame& frame) {
    interrupted_rip = frame.rip;
    WriteApic(Apic::EOI, 0);
  });
  SendIpi(0x44090);  // to itself
  EXPECT_TRAP(RunUser(user_flags, kRounds, kIF), 0x80, 0);
  EXPECT_EQ(interrupted_rip, UserAddress(user_flags_after));
  EXPECT_EQ(call_flags & kIF, 0);
  SetHandler(0x90, nullptr);
}

void AccessControl() {
  Section("SYSCALL with AC");
  const uint64_t cr4 = ReadCr4();
  if (HasSmap()) WriteCr4(cr4 | kSmap);
  SetMask(0);
  call_touches = 1;
  // The kernel has AC from the user, and may touch the user's page.
  const Trap with = RunUser(user_flags, kRounds, 0, 2 | kAcFlag);
  EXPECT_TRAP(with, 0x80, 0);
  EXPECT_EQ(call_flags & kAcFlag, kAcFlag);
  EXPECT_EQ(with.rflags & kAcFlag, kAcFlag);
  SetMask(kAcFlag);
  call_touches = 0;
  const Trap without = RunUser(user_flags, kRounds, 0, 2 | kAcFlag);
  EXPECT_TRAP(without, 0x80, 0);
  EXPECT_EQ(call_flags & kAcFlag, 0);
  EXPECT_EQ(without.rflags & kAcFlag, kAcFlag);
  call_touches = 1;
  const Trap denied = RunUser(user_flags, kRounds, 0, 2 | kAcFlag);
  EXPECT_TRAP(denied, HasSmap() ? kPF : 0x80, HasSmap() ? 1 : 0);
  if (HasSmap()) EXPECT_EQ(denied.cs, kCode64);
  call_touches = 0;
  WriteCr4(cr4);
}

uint64_t Call(const char* code, uint64_t rdi) {
  uint64_t result;
  asm volatile("call *%1" : "=a"(result) : "r"(code), "D"(rdi) : "memory", "cc");
  return result;
}

uint64_t Flags() {
  uint64_t flags;
  asm volatile("pushf\n pop %0" : "=r"(flags));
  return flags;
}

void Swapgs() {
  Section("SWAPGS");
  static volatile uint64_t marks[2] = {0x1111, 0x2222};
  WriteMsr(0xc0000101, At(const_cast<uint64_t*>(&marks[0])));
  WriteMsr(0xc0000102, At(const_cast<uint64_t*>(&marks[1])));
  for (unsigned round = 0; round < kRounds; ++round) {
    EXPECT_EQ(Call(user_swapgs, 0), round % 2 == 0 ? 0x2222 : 0x1111);
  }
  EXPECT_EQ(ReadMsr(0xc0000101), At(const_cast<uint64_t*>(&marks[0])));
  const Trap user = RunUser(user_swapgs);
  EXPECT_TRAP(user, kGP, 0);
  EXPECT_EQ(user.rip, UserAddress(user_swapgs));
  EXPECT_EQ(ReadMsr(0xc0000102), At(const_cast<uint64_t*>(&marks[1])));
  WriteMsr(0xc0000101, 0);
}

void Smap() {
  if (!HasSmap()) return Skip("SMAP");
  Section("STAC and CLAC");
  const uint64_t page = WindowPage(6), cr4 = ReadCr4();
  MapWindow(6, ScratchPage(8) | kPresent | kWrite | kUser);
  WriteMemory<uint32_t>(page, 0x12345678);
  for (unsigned round = 0; round < kRounds; ++round) {
    if (round % 10 == 5) WriteCr4(cr4 | kSmap);
    if (round % 10 == 0) WriteCr4(cr4);
    const bool smap = round % 10 >= 5;
    EXPECT_EQ(Call(user_stac, page), 0x12345678);
    EXPECT_EQ(Flags() & kAcFlag, kAcFlag);
    if (smap) {
      const Trap trap = Try([=] { Call(user_clac, page); });
      EXPECT_TRAP(trap, kPF, 1);
      EXPECT_EQ(trap.rflags & kAcFlag, 0);
      asm volatile("clac");
    } else {
      Call(user_clac, page);
      EXPECT_EQ(Flags() & kAcFlag, 0);
    }
  }
  WriteCr4(cr4);
  for (const char* code : {user_stac, user_clac}) {
    const Trap user = RunUser(code, page);
    EXPECT_TRAP(user, kUD, 0);
    EXPECT_EQ(user.rip, UserAddress(code));
  }
}

void PopStackPointer() {
  Section("POP RSP");
  for (uint64_t round = 0; round < kRounds; ++round) {
    uint64_t got;
    asm volatile(
        "mov %%rsp, %%rbx\n push %1\n pop %%rsp\n mov %%rsp, %%rcx\n mov %%rbx, %%rsp\n mov %%rcx, "
        "%0"
        : "=r"(got)
        : "r"(round * 0x123456789abcdef)
        : "rbx", "rcx", "memory");
    EXPECT_EQ(got, round * 0x123456789abcdef);
    // The last of a run of pops.
    uint64_t rdx, rsi;
    asm volatile(
        "mov %%rsp, %%rbx\n push %3\n push $2\n push $1\n pop %%rdx\n pop %%rsi\n pop %%rsp\n"
        "mov %%rsp, %0\n mov %%rbx, %%rsp"
        : "=&r"(got), "=&d"(rdx), "=&S"(rsi)
        : "r"(round * 0x123456789abcdef)
        : "rbx", "memory");
    EXPECT_EQ(got, round * 0x123456789abcdef);
    EXPECT_EQ(rdx, 1);
    EXPECT_EQ(rsi, 2);
  }
}

}  // namespace

void GuestMain() {
  Calls();
  Disabled();
  OddReturns();
  PendingInterrupt();
  AccessControl();
  Swapgs();
  Smap();
  PopStackPointer();
}
