// Debug registers, single-stepping and what they share with RF, MOV SS and interrupts.
// [SDM 3B] 17.2, 17.3; [SDM 3A] 6.8.3, 6.9
#include "lib/guest.h"

using namespace guest;

namespace {

enum Dr6 : uint64_t { kB0 = 1, kB1 = 2, kB2 = 4, kB3 = 8, kBD = 1 << 13, kBS = 1 << 14 };
enum Dr7 : uint64_t { kG0 = 2, kG1 = 8, kL2 = 0x10, kG3 = 0x80, kGD = 1 << 13, kFixed = 0x400 };
constexpr uint64_t kDr6Bits = 0xe00f, kTF = 0x100, kRF = 0x10000, kDE = 8;
enum Kind : uint64_t { kExecute = 0, kWriteOnly = 1, kPort = 2, kAccess = 3 };
enum Length : uint64_t { k1 = 0, k2 = 1, k8 = 2, k4 = 3 };
constexpr uint64_t Field(unsigned index, Kind kind, Length length) {
  return (kind | length << 2) << (16 + 4 * index);
}

#define DEBUG_ADDRESS(n)                                       \
  void WriteDr##n##Address(uint64_t value) {                   \
    asm volatile("mov %0, %%dr" #n : : "r"(value) : "memory"); \
  }
DEBUG_ADDRESS(1)
DEBUG_ADDRESS(2)
DEBUG_ADDRESS(3)
#undef DEBUG_ADDRESS

// What the handler of #DB saw, in order. It lets the instruction that was hit run.
struct Hit {
  uint64_t rip, dr6, rflags, cs, rcx;
};
Hit hits[32];
volatile unsigned hit_count;

void OnDebug(Frame& frame) {
  const uint64_t dr6 = ReadDr6();
  if (hit_count < 32) {
    hits[hit_count] = {frame.rip, dr6 & kDr6Bits, frame.rflags, frame.cs, frame.rcx};
  }
  hit_count = hit_count + 1;
  WriteDr6(0);
  frame.rflags |= kRF;
  if (hit_count > 24) frame.rflags &= ~kTF;
}

void Arm(uint64_t dr7) {
  hit_count = 0;
  WriteDr6(0);
  WriteDr7(kFixed | dr7);
}
void Disarm() {
  WriteDr7(kFixed);
}
uint64_t At(const char* label) {
  return reinterpret_cast<uint64_t>(label);
}

#define EXPECT_HIT(index, rip_, dr6_) \
  do {                                \
    EXPECT(hit_count > (index));      \
    EXPECT_EQ(hits[index].rip, rip_); \
    EXPECT_EQ(hits[index].dr6, dr6_); \
  } while (false)

extern "C" const char here_1[], here_2[], here_3[];
asm(R"(
    .global Nops, here_1, here_2, here_3
Nops:   nop
here_1: inc %rax
here_2: inc %rax
here_3: inc %rax
        ret
)");
extern "C" void Nops();

void Registers() {
  Section("registers");
  WriteDr6(0);
  EXPECT_EQ(ReadDr6(), 0xffff0ff0);
  WriteDr6(0xffffffff);
  EXPECT_EQ(ReadDr6() & 0xe00f, 0xe00f);
  WriteDr7(0);
  EXPECT_EQ(ReadDr7(), 0x400);
  WriteDr6(0);
  uint64_t value = 0;
  asm volatile(".byte 0x0f, 0x21, 0xf8" : "=a"(value));  // MOV RAX, DR7
  EXPECT_EQ(value, 0x400);
  // DR4 and DR5 are DR6 and DR7, or unknown with CR4.DE.
  asm volatile(".byte 0x0f, 0x21, 0xe8" : "=a"(value));  // MOV RAX, DR5
  EXPECT_EQ(value, 0x400);
  WriteCr4(ReadCr4() | kDE);
  EXPECT_TRAP(Try([] { asm volatile(".byte 0x0f, 0x21, 0xe8" : : : "rax"); }), kUD, 0);
  WriteCr4(ReadCr4() & ~kDE);
  EXPECT_TRAP(Try([] { WriteDr6(1ull << 32); }), kGP, 0);
  WriteDr0(0x123456789abcdef0);
  EXPECT_EQ(ReadDr0(), 0x123456789abcdef0);
  WriteDr0(0);
}

void Execution() {
  Section("instruction breakpoints");
  WriteDr0(At(here_1));
  WriteDr3Address(At(here_3));
  Arm(kG0 | kG3);
  Nops();
  EXPECT_EQ(hit_count, 2);
  EXPECT_HIT(0, At(here_1), kB0);
  EXPECT_EQ(hits[0].rflags & kRF, 0);  // it is a fault, but pushes RF as it was
  EXPECT_HIT(1, At(here_3), kB3);
  Nops();  // RF served for one instruction only
  EXPECT_EQ(hit_count, 4);
  // L bits do as well as G bits.
  WriteDr2Address(At(here_2));
  Arm(kL2);
  Nops();
  Disarm();
  EXPECT_EQ(hit_count, 1);
  EXPECT_HIT(0, At(here_2), kB2);
  Nops();
  EXPECT_EQ(hit_count, 1);

  // Other faults push RF set, so that their restart does not stop again.
  const Trap fault = Try([] { ReadMemory<uint8_t>(kWindow); });
  EXPECT_TRAP(fault, kPF, 0);
  if (!UnderTcg()) EXPECT_EQ(fault.rflags & kRF, kRF);
}

volatile uint8_t watched[64] __attribute__((aligned(64)));
uint64_t WatchedAt(unsigned offset) {
  return reinterpret_cast<uint64_t>(watched) + offset;
}

void Data() {
  Section("data breakpoints");
  if (UnderTcg()) return Skip("data breakpoints (QEMU TCG misses and misreports some)");
  WriteDr0(WatchedAt(16));
  WriteDr1Address(WatchedAt(24));
  Arm(kG0 | Field(0, kWriteOnly, k4) | kG1 | Field(1, kAccess, k8));
  (void)ReadMemory<uint32_t>(WatchedAt(16));
  EXPECT_EQ(hit_count, 0);  // write only
  WriteMemory<uint8_t>(WatchedAt(15), 1);
  WriteMemory<uint8_t>(WatchedAt(20), 1);
  EXPECT_EQ(hit_count, 0);
  WriteMemory<uint8_t>(WatchedAt(19), 1);
  EXPECT_EQ(hit_count, 1);
  EXPECT_EQ(hits[0].dr6, kB0);
  WriteMemory<uint32_t>(WatchedAt(13), 1);  // overlaps by a byte
  EXPECT_EQ(hit_count, 2);
  (void)ReadMemory<uint8_t>(WatchedAt(31));
  EXPECT_EQ(hit_count, 3);
  EXPECT_EQ(hits[2].dr6, kB1);
  WriteMemory<uint64_t>(WatchedAt(17), 1);  // both
  EXPECT_EQ(hit_count, 4);
  EXPECT_EQ(hits[3].dr6, kB0 | kB1);
  asm volatile("lock incb %0" : "+m"(*const_cast<uint8_t*>(&watched[17])));
  EXPECT_EQ(hit_count, 5);
  asm volatile("push %0\n popq %0" : : "m"(*const_cast<uint8_t*>(&watched[24])));
  EXPECT_EQ(hit_count, 7);
  // The address is taken down to a multiple of the length.
  WriteDr0(WatchedAt(19));
  WriteMemory<uint8_t>(WatchedAt(16), 1);
  EXPECT_EQ(hit_count, 8);

  // The trap comes after the instruction.
  hit_count = 0;
  asm volatile("movb $1, %0\n .global after_store\n after_store: nop" : "=m"(watched[16]));
  extern const char after_store[] asm("after_store");
  EXPECT_HIT(0, At(after_store), kB0);
  EXPECT_EQ(hits[0].rflags & kRF, 0);

  // A repeated instruction stops after the iteration, with RF for its rest.
  hit_count = 0;
  uint64_t to = WatchedAt(8), count = 16;
  asm volatile(
      ".global repeated\n repeated: rep stosb\n .global after_repeated\n after_repeated: nop"
      : "+D"(to), "+c"(count)
      : "a"(0)
      : "memory");
  extern const char repeated[] asm("repeated");
  EXPECT_EQ(count, 0);
  EXPECT_EQ(hit_count, 4);
  EXPECT_HIT(0, At(repeated), kB0);
  EXPECT_EQ(hits[0].rcx, 7);
  EXPECT_EQ(hits[0].rflags & kRF, kRF);
  EXPECT_EQ(hits[3].rcx, 4);
  Disarm();
  hit_count = 0;
  WriteMemory<uint64_t>(WatchedAt(16), 1);
  EXPECT_EQ(hit_count, 0);

  // A faulting instruction reports no breakpoint.
  MapWindow(0, ScratchPage(0) | kPresent | kWrite);
  WriteDr0(WindowPage(1) - 2);
  Arm(kG0 | Field(0, kAccess, k2));
  const Trap fault = Try([] { WriteMemory<uint32_t>(WindowPage(1) - 2, 0); });
  EXPECT_TRAP(fault, kPF, 2);
  EXPECT_EQ(hit_count, 0);
  Disarm();
}

void Ports() {
  Section("I/O breakpoints");
  if (UnderTcg()) return Skip("ranges of ports (QEMU TCG looks at the first)");
  WriteDr0(0x81);
  Arm(kG0 | Field(0, kPort, k1));
  Out8(0x81, 0);
  EXPECT_EQ(hit_count, 0);  // needs CR4.DE
  WriteCr4(ReadCr4() | kDE);
  Out8(0x81, 0);
  EXPECT_EQ(hit_count, 1);
  EXPECT_EQ(hits[0].dr6, kB0);
  In16(0x80);
  EXPECT_EQ(hit_count, 2);
  In8(0x80);
  Out16(0x82, 0);
  EXPECT_EQ(hit_count, 2);
  WriteMemory<uint8_t>(0x81, ReadMemory<uint8_t>(0x81));
  EXPECT_EQ(hit_count, 2);
  Disarm();
  WriteCr4(ReadCr4() & ~kDE);
}

void GeneralDetect() {
  Section("general detect");
  if (UnderTcg()) return Skip("DR7.GD (QEMU TCG has none)");
  hit_count = 0;
  WriteDr6(0);
  WriteDr7(kFixed | kGD);
  uint64_t value = 0;
  asm volatile(".global detected\n detected: mov %%dr0, %0" : "=r"(value));
  extern const char detected[] asm("detected");
  EXPECT_EQ(hit_count, 1);
  EXPECT_HIT(0, At(detected), kBD);
  EXPECT_EQ(ReadDr7(), kFixed);  // the handler may use the registers
}

// Steps through what stands between the labels and gives the count of traps.
#define STEP(text, ...)                                      \
  asm volatile("pushfq\n orl $0x100, (%%rsp)\n popfq\n" text \
               "\n pushfq\n andl $~0x100, (%%rsp)\n"         \
               "popfq" __VA_ARGS__)

void Stepping() {
  Section("single step");
  // The trap comes after each instruction but the POPF that sets TF; PUSHF, AND and POPF count 3.
  Arm(0);
  STEP("nop\n nop", : : : "memory", "cc");
  EXPECT_EQ(hit_count, 5);
  for (unsigned i = 0; i < 5; ++i) {
    EXPECT_EQ(hits[i].dr6, kBS);
    EXPECT_EQ(hits[i].rflags & kTF, i < 4 ? kTF : 0);  // the last POPF clears it
  }
  EXPECT_EQ(hits[1].rip, hits[0].rip + 1);

  // Each iteration of a repeated instruction.
  static uint8_t bytes[8];
  uint64_t to = reinterpret_cast<uint64_t>(bytes), count = 3;
  Arm(0);
  STEP("rep stosb", : "+D"(to), "+c"(count) : "a"(0) : "memory", "cc");
  EXPECT_EQ(hit_count, 6);
  EXPECT_EQ(hits[1].rip, hits[0].rip);
  EXPECT_EQ(hits[2].rip, hits[0].rip + 2);
  EXPECT_EQ(hits[0].rcx, 2);

  // No trap between MOV SS and the instruction after it. [SDM 3A] 6.8.3
  Arm(0);
  STEP("mov %0, %%ss\n nop", : : "r"(uint32_t{kData}) : "memory", "cc");
  EXPECT_EQ(hit_count, 4);
  Arm(0);  // the second of two does not hide
  STEP("mov %0, %%ss\n mov %0, %%ss\n nop", : : "r"(uint32_t{kData}) : "memory", "cc");
  if (!UnderTcg()) EXPECT_EQ(hit_count, 5);

  // An interrupt clears TF: nothing is stepped in its handler, the trap follows the instruction
  // after it.
  static unsigned interrupts;
  interrupts = 0;
  SetHandler(0x40, [](Frame&) { ++interrupts; });
  Arm(0);
  STEP("int $0x40\n .global after_int\n after_int: nop", : : : "memory", "cc");
  extern const char after_int[] asm("after_int");
  EXPECT_EQ(hit_count, 4);
  EXPECT_EQ(interrupts, 1);
  EXPECT_EQ(hits[0].rip, At(after_int) + 1);
  SetHandler(0x40, nullptr);

  if (UnderTcg()) return;
  // Both reasons at once.
  Arm(kG0 | Field(0, kWriteOnly, k1));
  WriteDr0(WatchedAt(0));
  STEP("movb $0, %0", : : "m"(watched[0]) : "memory", "cc");
  EXPECT_EQ(hits[0].dr6, kB0 | kBS);
  Disarm();
}

void MovSs() {
  Section("MOV SS");
  if (UnderTcg()) return Skip("traps that MOV SS holds back (QEMU TCG does not)");
  // A breakpoint on its operand waits for the next instruction to end, even if that is INT n.
  static uint16_t selector;
  selector = kData;
  WriteDr0(reinterpret_cast<uint64_t>(&selector));
  Arm(kG0 | Field(0, kAccess, k2));
  asm volatile("mov %0, %%ss\n nop\n .global after_ss\n after_ss: nop" : : "m"(selector));
  extern const char after_ss[] asm("after_ss");
  EXPECT_EQ(hit_count, 1);
  EXPECT_HIT(0, At(after_ss), kB0);
  SetHandler(0x40, [](Frame&) {});
  Arm(kG0 | Field(0, kAccess, k2));
  asm volatile("mov %0, %%ss\n int $0x40\n nop" : : "m"(selector));
  EXPECT_EQ(hit_count, 1);
  EXPECT(hits[0].rip != At(after_ss));
  extern const char stubs[] asm("interrupt_stubs");
  EXPECT_EQ(hits[0].rip, At(stubs) + 16 * 0x40);
  SetHandler(0x40, nullptr);
  // An instruction breakpoint after it is not seen.
  extern const char hidden[] asm("hidden_by_ss");
  WriteDr0(At(hidden));
  Arm(kG0);
  asm volatile("mov %0, %%ss\n .global hidden_by_ss\n hidden_by_ss: nop" : : "m"(selector));
  EXPECT_EQ(hit_count, 0);
  Disarm();
}

void Icebp() {
  Section("INT1");
  if (UnderTcg()) return Skip("INT1 (QEMU TCG sets DR6)");
  Arm(0);
  asm volatile(".byte 0xf1\n .global after_icebp\n after_icebp: nop");
  extern const char after_icebp[] asm("after_icebp");
  EXPECT_EQ(hit_count, 1);
  EXPECT_HIT(0, At(after_icebp), 0);

  // After MOV SS: a single step of that is lost, a breakpoint of it is told by INT1's #DB.
  Arm(0);
  STEP("mov %0, %%ss\n .byte 0xf1\n .global after_ss_icebp\n after_ss_icebp: nop",
       : : "r"(uint32_t{kData}) : "memory", "cc");
  extern const char after_ss_icebp[] asm("after_ss_icebp");
  EXPECT_EQ(hit_count, 5);
  EXPECT_HIT(0, At(after_ss_icebp), 0);
  EXPECT_HIT(1, At(after_ss_icebp) + 1, kBS);
  static uint16_t selector;
  selector = kData;
  WriteDr0(reinterpret_cast<uint64_t>(&selector));
  Arm(kG0 | Field(0, kAccess, k2));
  asm volatile("mov %0, %%ss\n .byte 0xf1\n .global watched_icebp\n watched_icebp: nop"
               :
               : "m"(selector));
  extern const char watched_icebp[] asm("watched_icebp");
  EXPECT_EQ(hit_count, 1);
  EXPECT_HIT(0, At(watched_icebp), kB0);
  Disarm();
}

USER_CODE(R"(
    .global user_icebp, user_step, user_dr, user_syscall
user_icebp:   .byte 0xf1
user_step:    nop
              nop
              int $0x80
user_dr:      mov %dr6, %rax
user_syscall: syscall
              nop
              int $0x80
)");
extern "C" const char user_icebp[], user_step[], user_dr[], user_syscall[];
asm(R"(
    .global syscall_target, syscall_end
syscall_target:
    nop
syscall_end:
    sysretq
)");
extern "C" const char syscall_target[], syscall_end[];

void User() {
  Section("user mode");
  Arm(0);
  // INT1 asks for no gate privilege, unlike INT 1.
  if (!UnderTcg()) {
    SetHandler(kDB, nullptr);
    EXPECT_TRAP(RunUser(user_icebp), kDB, 0);
    SetHandler(kDB, OnDebug);
  }
  EXPECT_TRAP(RunUser(user_dr), kGP, 0);
  // IRET that sets TF: the first trap is after the first instruction.
  Arm(0);
  EXPECT_TRAP(RunUser(user_step, 0, 0, 2 | kTF), 0x80, 0);
  EXPECT_EQ(hit_count, 2);
  EXPECT_HIT(0, UserAddress(user_step) + 1, kBS);
  EXPECT_HIT(1, UserAddress(user_step) + 2, kBS);

  // SYSCALL traps at its target unless FMASK clears TF; SYSRET that sets TF traps at once.
  if (UnderTcg()) return Skip("single-step over SYSCALL (QEMU TCG differs)");
  WriteMsr(0xc0000081, uint64_t{kUserCode32} << 48 | uint64_t{kCode64} << 32);
  WriteMsr(0xc0000082, At(syscall_target));
  WriteMsr(0xc0000084, kTF);
  Arm(0);
  EXPECT_TRAP(RunUser(user_syscall, 0, 0, 2 | kTF), 0x80, 0);
  EXPECT_EQ(hit_count, 2);
  EXPECT_HIT(0, UserAddress(user_syscall) + 2, kBS);
  EXPECT_EQ(hits[0].cs, kUserCode64);
  EXPECT_HIT(1, UserAddress(user_syscall) + 3, kBS);
  WriteMsr(0xc0000084, 0);
  Arm(0);
  EXPECT_TRAP(RunUser(user_syscall, 0, 0, 2 | kTF), 0x80, 0);
  EXPECT_HIT(0, At(syscall_target), kBS);
  EXPECT_EQ(hits[0].cs, kCode64);
}

}  // namespace

void GuestMain() {
  Registers();
  SetHandler(kDB, OnDebug);
  SetGateStack(kDB, 1);
  Execution();
  Data();
  Ports();
  GeneralDetect();
  Stepping();
  MovSs();
  Icebp();
  User();
}
