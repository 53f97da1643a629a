// Local APIC, IOAPIC and 8259: delivery, priority, end of interrupt. [SDM 3A] 6.8, 10
#include "lib/apic.h"
#include "lib/guest.h"

using namespace guest;

namespace {

volatile unsigned count = 0;
volatile uint8_t order[8];
volatile uint64_t interrupted_at = 0;

void Record(Frame& frame) {
  if (count < 8) order[count] = static_cast<uint8_t>(frame.vector);
  ++count;
  interrupted_at = frame.rip;
  EndOfInterrupt();
}

void SelfIpi() {
  Section("self IPI");
  EnableApic();
  for (uint8_t vector : {uint8_t{0x41}, uint8_t{0x50}, uint8_t{0x90}}) SetHandler(vector, Record);
  count = 0;
  SendIpi(kSelf | kAssert | 0x41);
  EXPECT_EQ(count, 0);  // IF is clear
  EXPECT(ApicBit(Apic::IRR, 0x41));
  EnableInterrupts();
  EXPECT(WaitFor([] { return count == 1; }));
  DisableInterrupts();
  EXPECT(!ApicBit(Apic::IRR, 0x41));
  EXPECT(!ApicBit(Apic::ISR, 0x41));
  // Twice the same vector while it waits is once.
  count = 0;
  SendIpi(kSelf | kAssert | 0x41);
  SendIpi(kSelf | kAssert | 0x41);
  EnableInterrupts();
  WaitFor([] { return count == 2; }, 5);
  DisableInterrupts();
  EXPECT_EQ(count, 1);
}

void Priority() {
  Section("priority");  // [SDM 3A] 10.8.3
  count = 0;
  SendIpi(kSelf | kAssert | 0x50);
  SendIpi(kSelf | kAssert | 0x90);
  SendIpi(kSelf | kAssert | 0x41);
  EnableInterrupts();
  EXPECT(WaitFor([] { return count == 3; }));
  DisableInterrupts();
  EXPECT_EQ(order[0], 0x90);
  EXPECT_EQ(order[1], 0x50);
  EXPECT_EQ(order[2], 0x41);

  Section("task priority");
  count = 0;
  WriteCr8(5);
  SendIpi(kSelf | kAssert | 0x50);
  EnableInterrupts();
  WaitFor([] { return count != 0; }, 5);
  EXPECT_EQ(count, 0);
  EXPECT_EQ(ReadApic(Apic::PPR), 0x50);
  WriteCr8(4);
  EXPECT(WaitFor([] { return count == 1; }));
  DisableInterrupts();
  WriteCr8(0);

  Section("in service");
  // A handler that does not end its interrupt holds back its own class and those below.
  count = 0;
  SetHandler(0x60, [](Frame&) {
    SendIpi(kSelf | kAssert | 0x50);
    SendIpi(kSelf | kAssert | 0x90);
    EnableInterrupts();
    WaitFor([] { return count == 1; });
    WaitFor([] { return count == 2; }, 5);
    DisableInterrupts();
    EXPECT_EQ(count, 1);
    EXPECT_EQ(order[0], 0x90);
    EXPECT(ApicBit(Apic::ISR, 0x60));
    EXPECT(ApicBit(Apic::IRR, 0x50));
    EndOfInterrupt();
  });
  SendIpi(kSelf | kAssert | 0x60);
  EnableInterrupts();
  EXPECT(WaitFor([] { return count == 2; }));
  DisableInterrupts();
  EXPECT_EQ(order[1], 0x50);
}

asm(R"(
    .global loop_jump, loop_return, loop_calls, loop_itself, loop_carry, loop_registers
loop_jump:                              # of indirect jumps
    mov   $1, %ecx
    lea   1f(%rip), %rax
1:  test  %rcx, %rcx
    jz    2f
    jmp   *%rax
2:  ret
loop_return:                            # of returns
    mov   $1, %ecx
    lea   1f(%rip), %rax
1:  test  %rcx, %rcx
    jz    2f
    push  %rax
    ret
2:  ret
loop_calls:
    mov   $1, %ecx
1:  call  2f
    test  %rcx, %rcx
    jnz   1b
2:  ret
loop_itself:                            # of one block
    mov   $1, %ecx
1:  test  %rcx, %rcx
    jnz   1b
    ret
loop_carry:                             # that nothing but the handler ends
    stc
1:  jc    1b
    ret
loop_registers:
    mov   $1, %r9d
    xor   %r10d, %r10d
    xor   %r11d, %r11d
1:  inc   %r10
    lea   (%r10, %r10), %r11
    test  %r9, %r9
    jnz   1b
    lea   (%r10, %r11), %rax
    ret
    .global loops_end
loops_end:
)");
extern "C" const char loops_end[];
extern "C" void loop_jump(), loop_return(), loop_calls(), loop_itself(), loop_carry();
extern "C" uint64_t loop_registers();
volatile uint64_t turns = 0;

void Loops() {
  Section("in loops");  // an interrupt comes within one turn
  EnableApic();
  // One that comes ahead of the loop, on a slow host, ends nothing: another one follows.
  SetHandler(0x42, [](Frame& frame) {
    EndOfInterrupt();
    const bool in_loop = frame.rip >= reinterpret_cast<uint64_t>(&loop_jump) &&
                         frame.rip < reinterpret_cast<uint64_t>(loops_end);
    if (!in_loop || count != 0) return;
    WriteApic(Apic::TIMER_INITIAL, 0);
    ++count;
    turns = frame.r10;
    frame.rcx = frame.r9 = 0;
    frame.rflags &= ~1ull;
  });
  const auto interrupt_soon = [] {
    constexpr uint32_t kPeriodic = 1 << 17;
    WriteApic(Apic::TIMER_DIVIDE, 3);
    WriteApic(Apic::LVT_TIMER, kPeriodic | 0x42);
    WriteApic(Apic::TIMER_INITIAL, 100'000);
    EnableInterrupts();
  };
  for (void (*loop)() : {loop_jump, loop_return, loop_calls, loop_itself, loop_carry}) {
    for (unsigned round = 0; round < 5; ++round) {
      count = 0;
      interrupt_soon();
      asm volatile("call *%0"
                   :
                   : "r"(loop)
                   : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory", "cc");
      DisableInterrupts();
      EXPECT_EQ(count, 1);
    }
  }
  for (unsigned round = 0; round < 5; ++round) {
    count = 0;
    interrupt_soon();
    const uint64_t result = loop_registers();
    DisableInterrupts();
    EXPECT_EQ(count, 1);
    EXPECT(result == 3 * turns || result == 3 * (turns + 1));
  }
}

extern "C" const char sti_shadow_end[];

void Shadow() {
  Section("after STI");  // [SDM 2B] STI: not before the end of the next instruction
  count = 0;
  SendIpi(kSelf | kAssert | 0x41);
  asm volatile("sti\n nop\n .global sti_shadow_end\n sti_shadow_end: nop\n nop\n cli"
               :
               :
               : "memory");
  EXPECT_EQ(count, 1);
  EXPECT_EQ(interrupted_at, reinterpret_cast<uint64_t>(sti_shadow_end));
  count = 0;
  SendIpi(kSelf | kAssert | 0x41);
  asm volatile("sti\n cli" : : : "memory");  // a window of no instruction
  EXPECT_EQ(count, 0);
  EnableInterrupts();
  EXPECT(WaitFor([] { return count == 1; }));
  DisableInterrupts();
}

void Destinations() {
  Section("destinations");  // [SDM 3A] 10.6.2
  const auto id = static_cast<uint8_t>(ReadApic(Apic::ID) >> 24);
  WriteApic(Apic::LDR, 0x02000000);
  WriteApic(Apic::DFR, 0xffffffff);
  const auto arrives = [](uint32_t icr, uint8_t destination) {
    count = 0;
    SendIpi(icr | kAssert | 0x41, destination);
    EnableInterrupts();
    const bool came = WaitFor([] { return count != 0; }, 5);
    DisableInterrupts();
    return came;
  };
  constexpr uint32_t kLogical = 0x800, kLowest = 0x100;
  EXPECT(arrives(0, id));
  EXPECT(!arrives(0, static_cast<uint8_t>(id + 100)));
  EXPECT(arrives(0, 0xff));
  EXPECT(arrives(kLogical, 0x02));
  EXPECT(arrives(kLogical, 0x06));
  EXPECT(!arrives(kLogical, 0x04));
  EXPECT(arrives(kLogical | kLowest, 0x02));
  EXPECT(arrives(kAll, 0));
  EXPECT(!arrives(kOthers, 0));
}

void Nmi() {
  Section("NMI");  // [SDM 3A] 6.7
  static volatile unsigned nmis, deepest, depth;
  nmis = deepest = depth = 0;
  SetHandler(kNmi, [](Frame&) {
    ++depth;
    if (depth > deepest) deepest = depth;
    // Another one waits for IRET.
    if (++nmis == 1) SendIpi(kNmiMode | kAssert, static_cast<uint8_t>(ReadApic(Apic::ID) >> 24));
    --depth;
  });
  SendIpi(kNmiMode | kAssert, static_cast<uint8_t>(ReadApic(Apic::ID) >> 24));
  EXPECT(WaitFor([] { return nmis == 2; }));  // IF is clear
  EXPECT_EQ(deepest, 1);
  SetHandler(kNmi, nullptr);
}

constexpr unsigned kPitHz = 1193182;

void StartPit(unsigned divisor) {
  Out8(0x43, 0x34);  // channel 0, mode 2
  Out8(0x40, static_cast<uint8_t>(divisor));
  Out8(0x40, static_cast<uint8_t>(divisor >> 8));
}

void Pic() {
  Section("8259");
  InitPics();
  SetHandler(0x20, [](Frame&) {
    ++count;
    Out8(0x20, 0x20);  // OCW2: non-specific EOI
  });
  WriteApic(Apic::LVT_LINT0, 0x700);  // ExtINT
  StartPit(kPitHz / 200);
  count = 0;
  UnmaskPic(0);
  EnableInterrupts();
  EXPECT(WaitFor([] { return count >= 3; }));
  DisableInterrupts();
  // Halted, too.
  const unsigned before = count;
  for (int i = 0; i < 3; ++i) WaitForInterrupt();
  EXPECT(count >= before + 3);
  // Without an EOI there is no next one.
  SetHandler(0x20, [](Frame&) { ++count; });
  count = 0;
  EnableInterrupts();
  WaitFor([] { return count >= 2; }, 50);
  DisableInterrupts();
  EXPECT_EQ(count, 1);
  Out8(0x20, 0x0b);  // OCW3: read ISR
  EXPECT_EQ(In8(0x20), 1);
  Out8(0x20, 0x20);
  EXPECT_EQ(In8(0x20), 0);
  MaskPics();
  SetHandler(0x20, [](Frame&) {
    ++count;
    Out8(0x20, 0x20);
  });
  count = 0;
  EnableInterrupts();
  WaitFor([] { return count != 0; }, 20);
  DisableInterrupts();
  EXPECT_EQ(count, 0);
  WriteApic(Apic::LVT_LINT0, 0x10000);
}

void IoapicEdge() {
  Section("IOAPIC, edge");
  EXPECT_EQ(ReadIoapic(1) >> 16 & 0xff, 23);  // 24 pins
  SetHandler(0x61, Record);
  count = 0;
  StartPit(kPitHz / 200);
  SetIoapicPin(2, 0x61);  // the 8254 is at pin 2
  EnableInterrupts();
  EXPECT(WaitFor([] { return count >= 3; }));
  DisableInterrupts();
  SetIoapicPin(2, 0x61 | kPinMasked);
  EnableInterrupts();
  Delay(6);  // what was under way
  count = 0;
  WaitFor([] { return count != 0; }, 20);
  DisableInterrupts();
  EXPECT_EQ(count, 0);
}

void IoapicLevel() {
  Section("IOAPIC, level");  // the serial line's interrupt, taken as level-triggered
  constexpr uint16_t kCom1 = 0x3f8;
  static volatile uint64_t entry_in_service, tmr;
  SetHandler(0x62, [](Frame&) {
    ++count;
    if (count == 1) {
      entry_in_service = ReadIoapic(0x10 + 2 * 4);
      tmr = ApicBit(Apic::TMR, 0x62);
    }
    if (count >= 2) In8(kCom1 + 2);  // IIR: takes the request back, the second time only
    EndOfInterrupt();
  });
  count = 0;
  WaitFor([] { return (In8(kCom1 + 5) & 0x60) == 0x60; });
  SetIoapicPin(4, 0x62 | kPinLevel);
  Out8(kCom1 + 4, 0x0b);  // OUT2 lets the interrupt out
  Out8(kCom1 + 1, 2);     // IER: transmitter empty
  EnableInterrupts();
  // The line stays high over the first EOI, so the interrupt comes again.
  EXPECT(WaitFor([] { return count >= 2; }));
  WaitFor([] { return count >= 3; }, 10);
  DisableInterrupts();
  EXPECT_EQ(count, 2);
  EXPECT_EQ(entry_in_service & 0x4000, 0x4000);  // remote IRR
  EXPECT(tmr);
  EXPECT_EQ(ReadIoapic(0x10 + 2 * 4) & 0x4000, 0);
  Out8(kCom1 + 1, 0);
  SetIoapicPin(4, kPinMasked);
}

void X2Apic() {
  Section("x2APIC");  // [SDM 3A] 10.12
  if ((Cpuid(1).ecx & (1u << 21)) == 0) return Skip("x2APIC");
  const uint32_t id = ReadApic(Apic::ID) >> 24;
  WriteMsr(0x1b, ReadMsr(0x1b) | 0x400);
  EXPECT_EQ(ReadMsr(0x802), id);
  EXPECT_EQ(ReadMsr(0x80d), (id >> 4) << 16 | 1u << (id & 15));  // LDR follows from the id
  SetHandler(0x41, [](Frame&) {
    ++count;
    WriteMsr(0x80b, 0);
  });
  count = 0;
  WriteMsr(0x83f, 0x41);  // SELF IPI
  EnableInterrupts();
  EXPECT(WaitFor([] { return count == 1; }));
  WriteMsr(0x830, uint64_t{id} << 32 | kAssert | 0x41);
  EXPECT(WaitFor([] { return count == 2; }));
  DisableInterrupts();
  EXPECT_TRAP(Try([] { WriteMsr(0x80b, 1); }), kGP, 0);  // EOI takes zero only
  EXPECT_TRAP(Try([] { ReadMsr(0x80b); }), kGP, 0);      // write-only
  EXPECT_TRAP(Try([] { ReadMsr(0x831); }), kGP, 0);      // no ICR high
  EXPECT_TRAP(Try([] { WriteMsr(0x1b, ReadMsr(0x1b) & ~0x400ull); }), kGP, 0);  // not straight back
  WriteMsr(0x1b, ReadMsr(0x1b) & ~0xc00ull);
  WriteMsr(0x1b, ReadMsr(0x1b) | 0x800);
  EXPECT_EQ(ReadApic(Apic::ID) >> 24, id);
}

}  // namespace

void GuestMain() {
  EXPECT(PmTimerPort() != 0);
  SelfIpi();
  Priority();
  Shadow();
  Loops();
  Destinations();
  Nmi();
  Pic();
  IoapicEdge();
  IoapicLevel();
  X2Apic();
}
