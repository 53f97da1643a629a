// Two processors at CPL 3: in one address space, with shared memory, code that changes and pages
// that are taken from both; and in two spaces of one PCID. [SDM 3A] 4.10.5, 8.1, 8.2
#include "lib/apic.h"
#include "lib/process.h"

using namespace guest;

namespace {

extern "C" char gdt[];

// R14 says how a program ends: 0 as usual, else as the second processor does.
USER_CODE(R"(
    .global locks, sends, answers, looks, adds, calls, exchanges
end_it:
    test  %r14, %r14
    jnz   1f
    int   $0x80
1:  int   $0x82
broken:
    ud2
locks:                          # RSI rounds of three ways to count
1:  mov   $1, %eax
    lock xadd %rax, (%rdi)
2:  mov   64(%rdi), %rax
    lea   1(%rax), %rcx
    lock cmpxchg %rcx, 64(%rdi)
    jnz   2b
3:  lock btsl $0, 128(%rdi)
    jnc   4f
    pause
    jmp   3b
4:  incq  192(%rdi)
    movl  $0, 128(%rdi)
    mov   $128, %eax            # and over the end of a cache line
    lock add %rax, 252(%rdi)
    dec   %rsi
    jnz   1b
    jmp   end_it
sends:                          # RSI messages
    xor   %eax, %eax
1:  inc   %rax
    mov   %rax, (%rdi)
    mov   %rax, 1000(%rdi)
    mov   %rax, 64(%rdi)
2:  pause
    cmp   %rax, 128(%rdi)
    jne   2b
    dec   %rsi
    jnz   1b
    jmp   end_it
answers:
    xor   %eax, %eax
1:  inc   %rax
2:  pause
    cmp   %rax, 64(%rdi)
    jne   2b
    cmp   %rax, 1000(%rdi)
    jne   broken
    cmp   %rax, (%rdi)
    jne   broken
    mov   %rax, 128(%rdi)
    dec   %rsi
    jnz   1b
    jmp   end_it
looks:                          # at (RDI), until (RSI) is set; RDX is never there
    mov   (%rdi), %rax
    cmp   %rdx, %rax
    je    broken
    mov   %rax, 8(%rsi)
    incq  16(%rsi)
    cmpl  $0, (%rsi)
    je    looks
    jmp   end_it
adds:                           # to (RDI), and then to 16(RSI)
    incq  (%rdi)
    incq  16(%rsi)
    cmpl  $0, (%rsi)
    je    adds
    jmp   end_it
calls:                          # RDI, which says RDX or RCX
    call  *%rdi
    cmp   %edx, %eax
    je    1f
    cmp   %ecx, %eax
    jne   broken
1:  mov   %rax, 8(%rsi)
    incq  16(%rsi)
    cmpl  $0, (%rsi)
    je    calls
    jmp   end_it
exchanges:                      # RSI times (RDI) becomes RDX and RCX in turn, ends as RDX
    mov   %rcx, (%rdi)
    mov   %rdx, (%rdi)
    dec   %rsi
    jnz   exchanges
    jmp   end_it
)");
extern "C" const char locks[], sends[], answers[], looks[], adds[], calls[], exchanges[];

constexpr uint64_t kShared = 0x7f2000000000, kWatched = 0x7f2000010000, kStacks = 0x7f2000020000;
constexpr uint64_t kControl = 0x7f2000030000, kCode = 0x7f2000040000, kAlias = 0x7f2000050000;
constexpr uint64_t kReadOnly = kPresent | kUser, kPoison = 0xdeaddeaddeaddead;
constexpr uint8_t kIpi = 0x50, kSecondEnds = 0x82;

AddressSpace* space;
uint64_t shared, control, code, watched[2];

// --- The second processor. ---
struct Order {
  const Frame* frame;
  const AddressSpace* space;
  uint64_t pcid;
};
volatile unsigned ordered, ended, acknowledged, refused;
Order order;
Frame end_frame;
Tss second_tss;
alignas(16) uint8_t second_entry[8192], second_stack[8192];

bool OnSecond() {
  return ReadApic(Apic::ID) >> 24 == 1;
}

[[noreturn]] void WaitForOrder() {
  while (ordered == ended) Pause();
  order.space->Use(order.pcid);
  Enter(*order.frame);
}

void OnSecondEnds(Frame& frame) {
  EXPECT(OnSecond());
  end_frame = frame;
  frame.rip = reinterpret_cast<uint64_t>(&WaitForOrder);
  frame.cs = kCode64, frame.ss = kData, frame.rflags = 2;
  frame.rsp = reinterpret_cast<uint64_t>(second_stack + sizeof second_stack - 8);
  ended = ordered;
}

void OnIpi(Frame&) {
  InvalidatePage(kWatched);
  EndOfInterrupt();
  acknowledged = acknowledged + 1;
}

// What is taken away is taken away until it comes back.
void OnFault(Frame& frame) {
  if (!OnSecond() || ReadCr2() >> 12 != kWatched >> 12) {
    EXPECT(false && "a fault in the watched page");
    PrintHex(frame.rip);
    Finish();
  }
  refused = refused + 1;
}

[[noreturn]] void Second(unsigned) {
  EnableApic();
  EnableAvx();
  second_tss.rsp[0] = reinterpret_cast<uint64_t>(second_entry + sizeof second_entry);
  second_tss.io_map = sizeof second_tss;
  const auto base = reinterpret_cast<uint64_t>(&second_tss);
  constexpr unsigned kSelector = 0x60;
  WriteMemory<uint64_t>(reinterpret_cast<uint64_t>(gdt) + kSelector,
                        (sizeof second_tss - 1) | (base & 0xffffff) << 16 | uint64_t{0x89} << 40 |
                            (base >> 24 & 0xff) << 56);
  WriteMemory<uint64_t>(reinterpret_cast<uint64_t>(gdt) + kSelector + 8, base >> 32);
  asm volatile("ltr %w0" : : "r"(kSelector));
  if (ReadMemory<uint64_t>(control + 64) != 0) WriteCr4(ReadCr4() | 1u << 17);  // PCIDE
  WaitForOrder();
}

Frame Program(const char* text, uint64_t rdi, uint64_t rsi, uint64_t rdx = 0, uint64_t rcx = 0) {
  Frame frame = UserFrame(UserLinear(text), kStacks + 4096);
  frame.rdi = rdi, frame.rsi = rsi, frame.rdx = rdx, frame.rcx = rcx;
  return frame;
}
void Give(const Frame& frame, const AddressSpace& where, uint64_t pcid = 0) {
  static Frame kept;
  kept = frame;
  kept.r14 = 1;
  kept.rflags |= 0x200;
  kept.rsp -= 2048;
  order = {&kept, &where, pcid};
  WriteMemory<uint64_t>(control, 0);
  WriteMemory<uint64_t>(control + 16, 0);
  ordered = ordered + 1;
}
void ExpectEnd() {
  const bool done = WaitFor([] { return ended == ordered; }, 20000);
  EXPECT(done);
  if (!done) Finish();
}
void Stop() {
  WriteMemory<uint64_t>(control, 1);
  ExpectEnd();
}
// It goes on for at least `rounds` more.
void ExpectProgress(uint64_t rounds) {
  const uint64_t from = ReadMemory<uint64_t>(control + 16);
  const bool goes_on =
      WaitFor([=] { return ReadMemory<uint64_t>(control + 16) - from >= rounds; }, 20000);
  EXPECT(goes_on);
  if (!goes_on) Finish();
}
void Shootdown() {
  const unsigned before = acknowledged;
  InvalidatePage(kWatched);
  SendIpi(kFixed | kAssert | kIpi, 1);
  const bool done = WaitFor([=] { return acknowledged != before; }, 20000);
  EXPECT(done);
  if (!done) Finish();
}

void Together() {
  Section("locks");
  constexpr uint64_t kRounds = 20000;
  for (unsigned i = 0; i < 512; ++i) WriteMemory<uint64_t>(shared + 8 * i, 0);
  Give(Program(locks, kShared, kRounds), *space);
  EXPECT_TRAP(Resume(Program(locks, kShared, kRounds)), 0x80, 0);
  ExpectEnd();
  for (const unsigned at : {0, 64, 192}) EXPECT_EQ(ReadMemory<uint64_t>(shared + at), 2 * kRounds);
  EXPECT_EQ(ReadMemory<uint64_t>(shared + 252), 128 * 2 * kRounds);
  Section("messages");
  for (unsigned i = 0; i < 512; ++i) WriteMemory<uint64_t>(shared + 8 * i, 0);
  Give(Program(answers, kShared, 500), *space);
  EXPECT_TRAP(Resume(Program(sends, kShared, 500)), 0x80, 0);
  ExpectEnd();
  EXPECT_EQ(end_frame.rax, 500);
}

void TakenAway() {
  Section("another frame");
  SetHandler(kPF, OnFault);
  WriteMemory<uint64_t>(watched[0], 1);
  space->Map(kWatched, watched[0] | kReadOnly);
  Give(Program(looks, kWatched, kControl, kPoison), *space);
  ExpectProgress(1000);
  for (unsigned round = 2; round < 40; ++round) {
    const unsigned now = round & 1, before = !now;
    WriteMemory<uint64_t>(watched[now], round);
    space->Map(kWatched, watched[now] | kReadOnly);
    Shootdown();
    WriteMemory<uint64_t>(watched[before], kPoison);
    ExpectProgress(100);
    EXPECT_EQ(ReadMemory<uint64_t>(control + 8), round);
  }
  Stop();
  EXPECT_EQ(refused, 0);

  for (const uint64_t left : {kReadOnly, uint64_t{0}, kPresent | kWrite}) {
    Section(left == kReadOnly ? "no more writing" : left == 0 ? "no more there" : "the kernel's");
    space->Map(kWatched, watched[0] | kUserPage);
    WriteMemory<uint64_t>(watched[0], 0);
    Give(Program(adds, kWatched, kControl), *space);
    for (unsigned round = 0; round < 16; ++round) {
      ExpectProgress(200);
      space->Map(kWatched, left != 0 ? watched[0] | left : 0);
      Shootdown();
      const uint64_t then = ReadMemory<uint64_t>(watched[0]);
      const unsigned from = refused;
      EXPECT(WaitFor([=] { return refused - from > 3; }, 20000));
      EXPECT_EQ(ReadMemory<uint64_t>(watched[0]), then);
      space->Map(kWatched, watched[0] | kUserPage);
      if (left != 0) Shootdown();
    }
    Stop();
    EXPECT_EQ(ReadMemory<uint64_t>(watched[0]), ReadMemory<uint64_t>(control + 16));
  }
  SetHandler(kPF, nullptr);
}

// [SDM 3A] 8.1.3: old or new, as they are written at once
void Code() {
  constexpr uint64_t kOld = 0x11111111, kNew = 0x22222222;
  const auto returning = [](uint64_t value) { return 0x9090c30000000000 + 0xb8 + (value << 8); };
  if (UnderTcg()) return Skip("code that another processor writes (QEMU TCG runs on in the old)");
  Section("code, by the kernel");
  WriteMemory<uint64_t>(code, returning(kOld));
  Give(Program(calls, kCode, kControl, kOld, kNew), *space);
  for (unsigned round = 0; round < 30; ++round) {
    const uint64_t value = round & 1 ? kOld : kNew;
    ExpectProgress(100);
    WriteMemory<uint64_t>(code, returning(value));
    EXPECT(WaitFor([=] { return ReadMemory<uint64_t>(control + 8) == value; }, 20000));
  }
  Section("code, by a program");
  for (unsigned round = 0; round < 20; ++round) {
    const bool old = round & 1;
    const uint64_t value = old ? kOld : kNew;
    ExpectProgress(100);
    const Frame frame =
        Program(exchanges, kAlias, 50, returning(value), returning(old ? kNew : kOld));
    EXPECT_TRAP(Resume(frame), 0x80, 0);
    EXPECT(WaitFor([=] { return ReadMemory<uint64_t>(control + 8) == value; }, 20000));
  }
  Stop();
}

// A PCID is a processor's own. [SDM 3A] 4.10.1
void Apart(bool pcid) {
  Section("two address spaces");
  static AddressSpace other;
  other.Map(kWatched, watched[1] | kReadOnly);
  other.Map(kControl, control | kUserPage);
  space->Map(kWatched, watched[0] | kReadOnly);
  InvalidatePage(kWatched);
  WriteMemory<uint64_t>(watched[0], 111);
  WriteMemory<uint64_t>(watched[1], 222);
  const uint64_t own_control = NewFrame();
  space->Map(kControl, own_control | kUserPage);
  WriteMemory<uint64_t>(own_control, 1);  // one round
  if (pcid) WriteCr4(ReadCr4() | 1u << 17);
  Give(Program(looks, kWatched, kControl, 111), other, pcid ? 1 : 0);
  ExpectProgress(1000);
  for (unsigned round = 0; round < 100; ++round) {
    space->Use(pcid ? 1 : 0);
    EXPECT_TRAP(Resume(Program(looks, kWatched, kControl, 222)), 0x80, 0);
    EXPECT_EQ(ReadMemory<uint64_t>(own_control + 8), 111);
    EXPECT_EQ(ReadMemory<uint64_t>(control + 8), 222);
  }
  ExpectProgress(1000);
  Stop();
}

}  // namespace

void GuestMain() {
  StartProcesses();
  EnableApic();
  SetGateDpl(kSecondEnds, 3);
  SetHandler(kSecondEnds, OnSecondEnds);
  SetHandler(kIpi, OnIpi);
  SetHandler(kUD, [](Frame& frame) {
    EXPECT(false && "what a program sees is whole");
    PrintHex(frame.rip);
    Finish();
  });
  static AddressSpace process;
  space = &process;
  shared = NewFrame(), control = NewFrame(), code = NewFrame();
  for (uint64_t& frame : watched) frame = NewFrame();
  process.Map(kShared, shared | kUserPage);
  process.Map(kControl, control | kUserPage);
  process.Map(kStacks, NewFrame() | kUserPage);
  process.Map(kCode, code | kReadOnly);
  process.Map(kAlias, code | kUserPage | kNoExecute);
  const bool pcid = Cpuid(1).ecx & 1u << 17;
  WriteMemory<uint64_t>(control + 64, pcid);
  EXPECT(StartCpu(1, Second));
  process.Use();
  Together();
  TakenAway();
  Code();
  Apart(pcid);
}
