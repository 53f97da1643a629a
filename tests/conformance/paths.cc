// Code of several blocks that usually follow each other, when for once they do not: jumps that go
// the other way, returns to elsewhere, faults and stores in the midst of it, loops that have to be
// interrupted. [SDM 1] 6.4.3, 7.3.8; [SDM 3A] 6.5, 8.1.3
#include "lib/apic.h"
#include "lib/code.h"
#include "lib/guest.h"

using namespace guest;

namespace {

constexpr unsigned kPitHz = 1193182;

asm(R"(
    .macro path name
    .p2align 9                          # no page ends in it
    .global \name
\name:
    .endm

    path  sides                         # which of four ways out RDI chooses; RSI is memory
    mov   $100, %r9
    lea   (%rdi,%rdi), %r10
    cmp   $2, %r10
    je    1f
    lea   20(%r9), %r11
    mov   %r11, (%rsi)
    cmp   $4, %r10
    jne   2f
    sub   $7, %r9
    jmp   3f
    ud2
2:  cmp   $6, %r10
    mov   8(%rsi), %rax                 # the flags live
    jb    3f
    je    4f
    mov   %r9, %rax
    sub   %r11, %rax
    ret
4:  mov   %r11, %rax
    ret
3:  lea   (%r9,%r11), %rax
    ret
1:  lea   (%r9,%r10), %rax
    ret

    path  faulting                      # on RSI, behind a jump; RDI not 0: before it
    xor   %eax, %eax
    mov   $3, %r10d
    add   $5, %r10
    test  %rdi, %rdi
    jz    1f
    mov   $1, %eax
    mov   %r10, %r11
    .global faulting_first
faulting_first:
    mov   %rax, (%rsi)
1:  cmp   $8, %r10
    jne   2f
    stc
    .global faulting_second
faulting_second:
    mov   8(%rsi), %r9
    adc   $0, %eax
2:  ret

    path  returning                     # the callee returns to where RDI says
    mov   $1, %eax
    push  %rbx
    push  $9
    call  2f
    .global returning_usual
returning_usual:
    add   $10, %eax
    jmp   1f
    .global returning_other
returning_other:
    add   $20, %eax
1:  pop   %rcx
    sub   $9, %rcx
    add   %ecx, %eax
    pop   %rbx
    ret
2:  mov   %rdi, (%rsp)
    add   $100, %eax
    .global returning_there
returning_there:
    ret

    path  releasing                     # the same with arguments on the stack, two deep
    push  %rdi
    push  %rdi
    call  1f
    ret
1:  push  16(%rsp)
    call  2f
    add   8(%rsp), %eax
    ret   $16
2:  mov   8(%rsp), %eax
    ret   $8

    path  changing                      # stores EDI at RSI: sometimes behind a jump and a call
    movl  %edi, (%rsi)
    test  %edi, %edi
    js    2f
    call  1f
    .global changing_after
changing_after:
    add   %ecx, %eax
    ret
1:  mov   $1, %ecx
    .global changing_at
changing_at:
    mov   $0, %eax
    ret
2:  mov   $77, %eax
    ret

    path  comparing                     # CF + 2 ZF of RDX and RSI, with C++ at RDI in between
    xor   %eax, %eax
    cmp   %rsi, %rdx
    jo    1f
    mov   (%rdi), %ecx
    mov   (%rsp), %r9
    setz  %cl
    adc   $0, %eax
    movzx %cl, %ecx
    lea   (%rax,%rcx,2), %eax
1:  ret

    path  masking                       # the same of RDX AND RSI; the result is written over
    xor   %eax, %eax
    mov   %rdx, %r10
    and   %rsi, %r10
    jo    1f
    push  %r10
    mov   (%rdi), %ecx
    pop   %r9
    setz  %cl
    mov   (%rsp), %r10
    adc   $0, %eax
    movzx %cl, %ecx
    lea   (%rax,%rcx,2), %eax
1:  ret

    path  waiting                       # for [RDI] to change; the ways back are in the midst
    mov   (%rdi), %eax
    jmp   3f
1:  mov   $0, %ecx
    jmp   4f
2:  inc   %ecx
    cmp   (%rdi), %eax
    je    1b
    ret
3:  test  %rdi, %rdi
    jz    5f
    jmp   2b
4:  test  %rdi, %rdi
    jnz   3b
5:  ret

    path  spinning                      # the same by calls and returns
    mov   (%rdi), %eax
1:  call  3f
    call  2f
    cmp   (%rdi), %eax
    jne   4f
    jmp   1b
2:  ret
    .p2align 4
3:  ret
4:  ret

    path  round                         # the same by jumps of which none leads far
    mov   (%rdi), %eax
    jmp   3f
1:  cmp   (%rdi), %eax
    jne   5f
    jmp   4f
2:  jmp   1b
3:  jmp   2b
4:  jmp   3b
5:  ret
)");
extern "C" const char sides[], faulting[], faulting_first[], faulting_second[], returning[];
extern "C" const char returning_usual[], returning_other[], returning_there[], releasing[],
    changing[];
extern "C" const char comparing[], masking[], changing_at[], changing_after[], waiting[],
    spinning[], round[];

uint64_t At(const char* label) {
  return reinterpret_cast<uint64_t>(label);
}

volatile uint32_t ticks = 0;

void Tick(Frame&) {
  ticks = ticks + 1;
  EndOfInterrupt();
}

// Each choice after many of another.
void Sides() {
  Section("sides");
  uint64_t memory[2] = {0, 7};
  const uint64_t expected[] = {220, 102, 213, 120, static_cast<uint32_t>(-20)};
  for (unsigned usual = 0; usual < 5; ++usual) {
    for (unsigned i = 0; i < 20; ++i) {
      const unsigned choice = i % 7 == 6 ? i % 5 : usual;
      memory[0] = 0;
      EXPECT_EQ(Call(At(sides), choice, reinterpret_cast<uint64_t>(memory)), expected[choice]);
      EXPECT_EQ(memory[0], choice == 1 ? 0 : 120);
    }
  }
}

void Faults() {
  Section("faults");
  MapWindow(0, ScratchPage(0) | kPresent | kWrite);
  for (unsigned i = 0; i < 60; ++i) {
    const bool stores = i % 3 == 1, maps = i % 8 < 4;
    WriteMemory<uint64_t>(ScratchPage(0), 5);
    MapWindow(0, maps ? ScratchPage(0) | kPresent | kWrite : 0);
    uint64_t result = 0;
    const Trap trap = Try([&] { result = Call(At(faulting), stores, WindowPage(0)); });
    EXPECT_EQ(trap.taken, !maps);
    if (maps) {
      EXPECT_EQ(result, stores ? 2 : 1);
      EXPECT_EQ(ReadMemory<uint64_t>(ScratchPage(0)), stores ? 1 : 5);
      continue;
    }
    EXPECT_TRAP(trap, kPF, stores ? 2 : 0);
    EXPECT_EQ(trap.rip, At(stores ? faulting_first : faulting_second));
    EXPECT_EQ(trap.cr2, WindowPage(0) + (stores ? 0 : 8));
    EXPECT_EQ(trap.frame.r10, 8);
    EXPECT_EQ(trap.frame.rax, stores);
    // TEST of 1, and STC behind CMP of equals.
    EXPECT_EQ(trap.frame.rflags & 0x8c5, stores ? 0 : 0x45);
    if (stores) EXPECT_EQ(trap.frame.r11, 8);
  }
}

void Returns() {
  Section("returns");
  for (unsigned i = 0; i < 60; ++i) {
    const bool other = i % 11 == 10;
    EXPECT_EQ(Call(At(returning), At(other ? returning_other : returning_usual)),
              other ? 121 : 111);
    EXPECT_EQ(Call(At(releasing), i), 2 * i);
    if (i % 13 != 12) continue;
    constexpr uint64_t kNowhere = 0x8000'0000'0000'0000;
    const Trap trap = Try([] { Call(At(returning), kNowhere); });
    EXPECT_TRAP(trap, kGP, 0);
    EXPECT_EQ(trap.rip, At(returning_there));
    EXPECT_EQ(ReadMemory<uint64_t>(trap.frame.rsp), kNowhere);
    EXPECT_EQ(trap.frame.rax, 101);
  }
}

// Flags that live across accesses of memory and of a device.
void LivingFlags() {
  Section("flags");
  const uint64_t memory = 0, device = 0xfee00030;
  for (uint64_t i = 0; i < 60; ++i) {
    const uint64_t at = i % 10 > 7 ? device : reinterpret_cast<uint64_t>(&memory);
    const uint64_t left = i % 3, right = i % 5;
    EXPECT_EQ(Call(At(comparing), at, right, left), (left < right) + 2u * (left == right));
    EXPECT_EQ(Call(At(masking), at, right, left), 2u * ((left & right) == 0));
  }
}

void Changes() {
  Section("changes");
  uint32_t elsewhere = 0, value = 0;
  const auto call = [&](uint32_t next, bool changes) {
    if (changes) value = next;
    return Call(At(changing), next,
                changes ? At(changing_at) + 1 : reinterpret_cast<uint64_t>(&elsewhere));
  };
  for (uint32_t i = 0; i < 200; ++i) {
    const uint32_t result = call(i, i % 16 == 15);
    EXPECT_EQ(result, value + 1);
    EXPECT_EQ(elsewhere, i % 16 == 15 ? i - 1 : i);
    if (i % 16 == 10) EXPECT_EQ(call(0x80000000 + i, false), 77);
    elsewhere = i;
    if (i % 32 != 31) continue;
    for (unsigned j = 0; j < 8; ++j) EXPECT_EQ(call(0, false), value + 1);
    WriteMemory<uint8_t>(At(changing_after), 0x29);  // SUB
    EXPECT_EQ(call(0, false), value - 1);
    WriteMemory<uint8_t>(At(changing_after), 0x01);
    EXPECT_EQ(call(0, false), value + 1);
    elsewhere = i;
  }
}

void Loops() {
  Section("loops");
  SetHandler(0x61, Tick);
  EnableApic();
  Out8(0x43, 0x34);
  Out8(0x40, static_cast<uint8_t>(kPitHz / 500));
  Out8(0x40, static_cast<uint8_t>(kPitHz / 500 >> 8));
  SetIoapicPin(2, 0x61);
  EnableInterrupts();
  for (unsigned i = 0; i < 8; ++i) {
    for (const char* loop : {waiting, spinning, round}) {
      const uint32_t before = Call(At(loop), reinterpret_cast<uint64_t>(&ticks));
      EXPECT(ticks != before);
    }
  }
  DisableInterrupts();
  SetIoapicPin(2, kPinMasked);
}

}  // namespace

void GuestMain() {
  Sides();
  Faults();
  Returns();
  LivingFlags();
  Changes();
  Loops();
}
