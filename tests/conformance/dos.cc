// A program as DOS knew them, in real mode and then under a monitor in V86 mode: interrupts through
// the vector table, a ticking 8254, faults that it handles itself, and the ways between the modes.
// [SDM 3A] 9.9, [SDM 3B] 20.1, 20.2
#include "lib32/guest.h"

using namespace guest;

namespace {

// What the program leaves behind stands in its own segment.
REAL_CODE(R"(
    .global r_enter, r_program, r_dos, r_divide, r_undefined, r_protection, r_tick, r_end
    .global r_calls, r_carry, r_divide_ip, r_undefined_ip, r_protection_ip, r_ticks, r_flags
    .global r_unreal, r_copied, r_stack, r_divide_at, r_undefined_at, r_protection_at, r_cs
r_start:
r_calls:         .word 0
r_carry:         .word 0
r_divide_ip:     .word 0
r_undefined_ip:  .word 0
r_protection_ip: .word 0
r_ticks:         .word 0
r_flags:         .word 0
r_stack:         .word 0
r_cs:            .word 0
r_copied:        .long 0
r_unreal:        .long 0

r_enter:                        # 16-bit protected mode; FS is flat and stays so
    mov %cr0, %eax
    and $~1, %eax
    mov %eax, %cr0
    ljmp $0x1000, $(1f - r_start)
1:  mov %cs, %ax
    mov %ax, %ds
    mov %ax, %es
    mov $0x2000, %ax
    mov %ax, %ss
    mov $0xfff0, %sp
    mov $0x100000, %ebx
    addr32 mov %fs:(%ebx), %eax # beyond 1 MiB, by the limit of protected mode
    mov %eax, r_unreal - r_start
    call r_program
    mov %cr0, %eax
    or $1, %eax
    mov %eax, %cr0
    ljmpl $0x08, $BackToProtected

r_program:
    mov %sp, r_stack - r_start
    mov %cs, r_cs - r_start
    mov $0x0900, %ax
    int $0x21
    jnc 1f
    incw r_carry - r_start
1:  mov $5, %ax
    xor %bx, %bx
r_divide_at:
    div %bx
r_undefined_at:
    ud2
r_protection_at:
    mov 0xffff, %ax             # a word at the end of the segment
    pushw $0x7002               # IOPL and NT can be set in real mode
    popfw
    pushfw
    popw r_flags - r_start
    pushw $2
    popfw
    mov $0x1234, %ax
    mov $(r_copied - r_start), %di
    cld
    stosw
    mov $0x5678, %ax
    stosw
    sti
2:  hlt
    cmpw $3, r_ticks - r_start
    jb 2b
    cli
    sub %sp, r_stack - r_start  # 0: every interrupt came back in balance
    ret

r_dos:
    cmp $0x0900, %ax
    jne 1f
    incw %cs:r_calls - r_start
    push %bp
    mov %sp, %bp
    orw $1, 6(%bp)              # CF of the caller
    pop %bp
1:  iretw

    # Each notes where it happened and goes on behind it.
r_divide:
    push %bp
    mov %sp, %bp
    push %ax
    mov 2(%bp), %ax
    mov %ax, %cs:r_divide_ip - r_start
    addw $2, 2(%bp)
    pop %ax
    pop %bp
    iretw
r_undefined:
    push %bp
    mov %sp, %bp
    push %ax
    mov 2(%bp), %ax
    mov %ax, %cs:r_undefined_ip - r_start
    addw $2, 2(%bp)
    pop %ax
    pop %bp
    iretw
r_protection:
    push %bp
    mov %sp, %bp
    push %ax
    mov 2(%bp), %ax
    mov %ax, %cs:r_protection_ip - r_start
    addw $3, 2(%bp)
    pop %ax
    pop %bp
    iretw
r_tick:
    push %ax
    incw %cs:r_ticks - r_start
    mov $0x20, %al
    out %al, $0x20
    pop %ax
    iretw

    .global r_v86
r_v86:                          # the program as a V86 task of the monitor
    mov %cs, %ax
    mov %ax, %ds
    mov %ax, %es
    call r_program
r_end:
    int $0x20
)");
extern "C" const char r_enter[], r_dos[], r_divide[], r_undefined[], r_protection[], r_tick[],
    r_end[], r_v86[], r_calls[], r_carry[], r_divide_ip[], r_undefined_ip[], r_protection_ip[],
    r_ticks[], r_flags[], r_unreal[], r_copied[], r_stack[], r_divide_at[], r_undefined_at[],
    r_protection_at[], r_cs[];

constexpr uint16_t kRealCode = kFree, kRealData = 0x50;

extern "C" {
void EnterReal(uint32_t offset);
void BackToProtected();
uint16_t saved_idtr[3];
uint32_t saved_esp;
extern const uint16_t real_idtr[3];
}
const uint16_t real_idtr[3] = {0x3ff, 0, 0};
asm(R"(
    .global EnterReal, BackToProtected
EnterReal:
    mov 4(%esp), %eax
    pusha
    pushf
    mov %esp, saved_esp
    sidt saved_idtr
    lidt real_idtr
    mov $0x50, %ecx             # kRealData: limit and attributes of real mode
    mov %ecx, %ds
    mov %ecx, %es
    mov %ecx, %ss
    mov %ecx, %gs
    push %eax
    ljmp $0x48, $0              # kRealCode, whose base is that of r_enter
BackToProtected:
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov %eax, %fs
    mov %eax, %gs
    mov saved_esp, %esp
    lidt saved_idtr
    popf
    popa
    ret
)");

uint16_t Word(const char* label) {
  return ReadMemory<uint16_t>(kRealSegment * 16u + RealOffset(label));
}
uint32_t Long(const char* label) {
  return ReadMemory<uint32_t>(kRealSegment * 16u + RealOffset(label));
}
void SetVector(unsigned vector, const char* handler) {
  WriteMemory<uint16_t>(vector * 4, RealOffset(handler));
  WriteMemory<uint16_t>(vector * 4 + 2, kRealSegment);
}

// [8259A] initialization sequence; only the timer is let through.
void InitPics(uint8_t base) {
  const uint8_t master[] = {0x11, base, 4, 1, 0xfe};
  const uint8_t slave[] = {0x11, 0x70, 2, 1, 0xff};
  for (unsigned i = 0; i < 5; ++i) {
    Out8(i == 0 ? 0x20 : 0x21, master[i]);
    Out8(i == 0 ? 0xa0 : 0xa1, slave[i]);
  }
}
void StartTimer(uint16_t divisor) {  // [8254] counter 0, mode 2
  Out8(0x43, 0x34);
  Out8(0x40, static_cast<uint8_t>(divisor));
  Out8(0x40, static_cast<uint8_t>(divisor >> 8));
}

void ClearResults() {
  for (uint32_t at = 0; at < 26; ++at) WriteMemory<uint8_t>(kRealSegment * 16u + at, 0);
  for (uint32_t at = 0; at < 0x400; at += 4) WriteMemory<uint32_t>(at, 0);
  SetVector(0, r_divide);
  SetVector(6, r_undefined);
  SetVector(8, r_tick);
  SetVector(13, r_protection);
  SetVector(0x21, r_dos);
}

void CheckResults() {
  EXPECT_EQ(Word(r_calls), 1);
  EXPECT_EQ(Word(r_carry), 1);
  EXPECT_EQ(Word(r_divide_ip), RealOffset(r_divide_at));
  EXPECT_EQ(Word(r_undefined_ip), RealOffset(r_undefined_at));
  // QEMU TCG does not check limits in these modes.
  if (!UnderTcg()) EXPECT_EQ(Word(r_protection_ip), RealOffset(r_protection_at));
  EXPECT(Word(r_ticks) >= 3);
  EXPECT_EQ(Long(r_copied), 0x56781234);
  EXPECT_EQ(Word(r_stack), 0);
  EXPECT_EQ(Word(r_cs), kRealSegment);
}

void RealMode() {
  Section("real mode");
  ClearResults();
  InitPics(8);
  StartTimer(1193);
  SetSegment(kRealCode, kRealSegment * 16u + RealOffset(r_enter), 0xffff, kExecuteRead, kByte16);
  SetSegment(kRealData, 0x20000, 0xffff, kReadWrite, kByte16);
  EnterReal(0);
  Out8(0x21, 0xff);
  CheckResults();
  EXPECT_EQ(Word(r_flags) & 0x7000, 0x7000);
  EXPECT_EQ(Long(r_unreal), ReadMemory<uint32_t>(0x100000));
}

// --- The monitor: what an EMM386 does for its DOS. ---

bool virtual_if, pending_tick;
unsigned emulated[256];

uint8_t* V86Address(uint16_t segment, uint32_t offset) {
  return reinterpret_cast<uint8_t*>(segment * 16u + (offset & 0xffff));
}
void PushWord(Frame& frame, uint16_t value) {
  frame.esp = (frame.esp & 0xffff0000) | ((frame.esp - 2) & 0xffff);
  WriteMemory<uint16_t>(reinterpret_cast<uint32_t>(V86Address(frame.ss & 0xffff, frame.esp)),
                        value);
}
uint16_t PopWord(Frame& frame) {
  const auto at = reinterpret_cast<uint32_t>(V86Address(frame.ss & 0xffff, frame.esp));
  frame.esp = (frame.esp & 0xffff0000) | ((frame.esp + 2) & 0xffff);
  return ReadMemory<uint16_t>(at);
}
uint16_t VirtualFlags(const Frame& frame) {
  return static_cast<uint16_t>((frame.eflags & ~kIF) | (virtual_if ? +kIF : 0u));
}
void SetVirtualFlags(Frame& frame, uint16_t flags) {
  constexpr uint32_t kOwn = 0xcd5 | kNT;
  virtual_if = flags & kIF;
  frame.eflags = (frame.eflags & ~kOwn) | (flags & kOwn);
}
void Reflect(Frame& frame, unsigned vector) {
  PushWord(frame, VirtualFlags(frame));
  PushWord(frame, static_cast<uint16_t>(frame.cs));
  PushWord(frame, static_cast<uint16_t>(frame.eip));
  virtual_if = false;
  frame.eip = ReadMemory<uint16_t>(vector * 4);
  frame.cs = ReadMemory<uint16_t>(vector * 4 + 2);
}
void DeliverTick(Frame& frame) {
  if (!pending_tick || !virtual_if) return;
  pending_tick = false;
  Reflect(frame, 8);
}

void Tick(Frame& frame) {
  pending_tick = true;
  if (frame.eflags & kVM) DeliverTick(frame);
}

void Protection(Frame& frame) {
  if (!(frame.eflags & kVM)) {
    SetHandler(kGP, nullptr);
    return;
  }
  const uint8_t* code = V86Address(static_cast<uint16_t>(frame.cs), frame.eip);
  ++emulated[code[0]];
  switch (code[0]) {
    case 0xfa:  // CLI
      virtual_if = false;
      frame.eip += 1;
      break;
    case 0xfb:  // STI
      virtual_if = true;
      frame.eip += 1;
      break;
    case 0xf4:  // HLT
      frame.eip += 1;
      while (!pending_tick) asm volatile("sti\n hlt\n cli" : : : "memory");
      break;
    case 0x9c:  // PUSHF
      PushWord(frame, VirtualFlags(frame));
      frame.eip += 1;
      break;
    case 0x9d:  // POPF
      SetVirtualFlags(frame, PopWord(frame));
      frame.eip += 1;
      break;
    case 0xcf:  // IRET
      frame.eip = PopWord(frame);
      frame.cs = PopWord(frame);
      SetVirtualFlags(frame, PopWord(frame));
      break;
    case 0xcd:  // INT
      if (code[1] == 0x20) {
        SetHandler(kGP, nullptr);  // the program has ended: the next one is caught
        break;
      }
      frame.eip += 2;
      Reflect(frame, code[1]);
      break;
    default:
      Reflect(frame, kGP);
      break;
  }
  DeliverTick(frame);
}

void Monitor() {
  Section("V86 monitor");
  ClearResults();
  InitPics(0x50);
  StartTimer(1193);
  SetHandler(0x50, Tick);
  SetHandler(kGP, Protection);
  SetHandler(kDE, [](Frame& frame) { Reflect(frame, kDE); });
  SetHandler(kUD, [](Frame& frame) { Reflect(frame, kUD); });
  tss.io_map = static_cast<uint16_t>(reinterpret_cast<uint32_t>(tss.io_bitmap) -
                                     reinterpret_cast<uint32_t>(&tss));
  for (uint8_t& byte : tss.io_bitmap) byte = 0xff;
  tss.io_bitmap[0x20 / 8] = 0xfe;
  const Trap trap = RunV86(r_v86, 2 | kIF);
  Out8(0x21, 0xff);
  SetHandler(0x50, nullptr);
  SetHandler(kDE, nullptr);
  SetHandler(kUD, nullptr);
  EXPECT_TRAP(trap, kGP, 0);
  EXPECT_EQ(trap.eip, RealOffset(r_end));
  CheckResults();
  EXPECT_EQ(Word(r_flags) & 0x7000, 0x4000);  // IOPL is the monitor's
  EXPECT(emulated[0xf4] >= 1);
  EXPECT_EQ(emulated[0xfb], 1);
  EXPECT_EQ(emulated[0xfa], 1);
  EXPECT(emulated[0xcf] >= 6);
}

}  // namespace

void GuestMain() {
  RealMode();
  Monitor();
  RealMode();  // and back once more
}
