// Virtual-8086 mode, its extensions, and virtual interrupts of CPL 3. [SDM 3B] 20
#include "lib32/guest.h"

using namespace guest;

namespace {

REAL_CODE(R"(
    .global v_hlt, v_cli, v_sti, v_pushf, v_pushfd, v_popf, v_int, v_int3, v_iret, v_iretd, v_out
    .global v_ss_high, v_ds_high, v_segments, v_cr, v_sldt, v_arpl, v_lar, v_lmsw, v_handler, v_end
    .global v_vme, v_popf_bx, v_into, v_wide_jump, v_count, v_lgdt
v_hlt:      hlt
v_cli:      cli
v_end:      int $0x80
v_sti:      sti
            int $0x80
v_pushf:    pushfw
            pop %ax
            int $0x80
v_pushfd:   pushfl
            pop %eax
            int $0x80
v_popf_bx:
v_popf:     push %bx
            popfw
            pushfw
            pop %ax
            int $0x80
v_int:      int $0x21
            int $0x80
v_int3:     int3
v_into:     mov $0x7f, %al
            inc %al
            into
v_iret:     push %bx
            push %cs
            push $(1f - v_hlt)
            iretw
            hlt
1:          int $0x80
v_iretd:    push %ebx
            pushl $0x1000
            pushl $(1f - v_hlt)
            iretl
            hlt
1:          int $0x80
v_out:      out %al, $0x80
            int $0x80
v_ss_high:  mov $0xffff, %bp
            mov (%bp), %ax
v_ds_high:  mov $0xffff, %bx
            mov (%bx), %ax
v_segments: mov $0x1234, %ax
            mov %ax, %ds
            mov %ds, %bx
            mov %ax, %fs
            mov $0, %eax
            mov %ss, %ax
            int $0x80
v_cr:       mov %cr0, %eax
v_lmsw:     lmsw %ax
v_lgdt:     lgdt 0
v_sldt:     sldt %ax
v_arpl:     arpl %ax, %bx
v_lar:      lar %ax, %bx
v_wide_jump:
            mov $0x10000, %eax
            jmpl *%eax
v_handler:  pushfw                      # of INT 0x21 by redirection
            pop %cx
            mov %sp, %bp
            mov 4(%bp), %dx             # flags that INT pushed
            iretw
)");
extern "C" const char v_hlt[], v_cli[], v_sti[], v_pushf[], v_pushfd[], v_popf[], v_int[], v_int3[],
    v_iret[], v_iretd[], v_out[], v_ss_high[], v_ds_high[], v_segments[], v_cr[], v_sldt[],
    v_arpl[], v_lar[], v_lmsw[], v_handler[], v_end[], v_into[], v_wide_jump[], v_lgdt[];

constexpr uint32_t kArithmetic = 0x8d5;

V86Registers WithBx(uint32_t value) {
  V86Registers registers;
  registers.ebx = value;
  return registers;
}

void Entry() {
  Section("entry and exit");
  V86Registers registers;
  registers.es = 0x1111;
  registers.ds = 0x2222;
  registers.fs = 0x3333;
  registers.gs = 0x4444;
  Trap trap = RunV86(v_hlt, 2, registers);
  EXPECT_TRAP(trap, kGP, 0);
  EXPECT_EQ(trap.eip, RealOffset(v_hlt));
  EXPECT_EQ(trap.cs, kRealSegment);
  EXPECT_EQ(trap.eflags & (kVM | kRF), UnderTcg() ? kVM + 0u : kVM | kRF);
  EXPECT_EQ(trap.frame.esp, 0xfff0);
  EXPECT_EQ(trap.frame.ss, 0x2000);
  EXPECT_EQ(trap.frame.v86_es, 0x1111);
  EXPECT_EQ(trap.frame.v86_ds, 0x2222);
  EXPECT_EQ(trap.frame.v86_fs, 0x3333);
  EXPECT_EQ(trap.frame.v86_gs, 0x4444);
  EXPECT_EQ(trap.frame.fs | trap.frame.gs | trap.frame.es | trap.frame.ds, 0);  // null in a handler
  trap = RunV86(v_segments, 2 | kIopl3);
  EXPECT_TRAP(trap, 0x80, 0);
  EXPECT_EQ(trap.frame.ebx & 0xffff, 0x1234);
  EXPECT_EQ(trap.frame.eax, 0x2000);
  EXPECT_EQ(trap.frame.v86_ds, 0x1234);
  EXPECT_EQ(trap.frame.v86_fs, 0x1234);

  Section("limits");
  EXPECT_TRAP(RunV86(v_ds_high), kGP, 0);
  if (!UnderTcg()) EXPECT_TRAP(RunV86(v_ss_high), kSS, 0);
  trap = RunV86(v_wide_jump);
  EXPECT_TRAP(trap, kGP, 0);
  if (!UnderTcg()) EXPECT_EQ(trap.eip, RealOffset(v_wide_jump) + 6);  // the jump itself

  Section("privileged and unknown");
  const char* const privileged[] = {v_cr, v_lmsw, v_lgdt};
  for (const char* code : privileged) EXPECT_TRAP(RunV86(code), kGP, 0);
  const char* const unknown[] = {v_sldt, v_arpl, v_lar};
  for (const char* code : unknown) EXPECT_TRAP(RunV86(code), kUD, 0);
}

void Iopl() {
  Section("IOPL 0");
  const char* const sensitive[] = {v_cli, v_sti, v_pushf, v_pushfd, v_popf, v_int, v_iret, v_iretd};
  for (const char* code : sensitive) {
    const Trap trap = RunV86(code);
    EXPECT_TRAP(trap, kGP, 0);
    EXPECT(trap.frame.esp >= 0xffe0);
  }
  // INT3 and INTO do not ask for IOPL, only for the gate's DPL.
  EXPECT_TRAP(RunV86(v_int3), kGP, 3 * 8 + 2);
  ResetIdtGate(kBP, kInterruptGate32 | kDpl3);
  EXPECT_TRAP(RunV86(v_int3), kBP, 0);
  ResetIdtGate(kBP);
  ResetIdtGate(kOF, kInterruptGate32 | kDpl3);
  EXPECT_TRAP(RunV86(v_into), kOF, 0);
  ResetIdtGate(kOF);

  Section("IOPL 3");
  Trap trap = RunV86(v_cli, 2 | kIopl3 | kIF);
  EXPECT_TRAP(trap, 0x80, 0);
  EXPECT_EQ(trap.eflags & kIF, 0);
  trap = RunV86(v_pushf, 2 | kIopl3 | kIF);
  EXPECT_EQ(trap.frame.eax & 0x7202, 0x3202);
  trap = RunV86(v_pushfd, 2 | kIopl3);
  EXPECT_EQ(trap.frame.eax & (kVM | kRF), 0);  // PUSHF hides both
  trap = RunV86(v_popf, 2 | kIopl3, WithBx(0x0002 | kIF | kCF));
  EXPECT_EQ(trap.frame.eax & 0x7203, 0x3203);                 // IOPL stays
  EXPECT_TRAP(RunV86(v_int, 2 | kIopl3), kGP, 0x21 * 8 + 2);  // its gate has DPL 0
  trap = RunV86(v_iret, 2 | kIopl3, WithBx(0x0203));
  EXPECT_TRAP(trap, 0x80, 0);
  EXPECT_EQ(trap.eflags & (kIF | kIopl3 | kCF | kVM), kIF | kIopl3 | kCF | kVM);
  trap = RunV86(v_iretd, 2 | kIopl3, WithBx(kVIF | kVIP | 2));
  EXPECT_TRAP(trap, 0x80, 0);
  EXPECT_EQ(trap.eflags & (kVIF | kVIP | kVM | kIopl3), kVM | kIopl3);
  // The I/O bitmap counts whatever IOPL is.
  EXPECT_TRAP(RunV86(v_out, 2 | kIopl3), kGP, 0);
  tss.io_map = static_cast<uint16_t>(reinterpret_cast<uint32_t>(tss.io_bitmap) -
                                     reinterpret_cast<uint32_t>(&tss));
  for (uint8_t& byte : tss.io_bitmap) byte = 0xff;
  EXPECT_TRAP(RunV86(v_out, 2 | kIopl3), kGP, 0);
  tss.io_bitmap[0x80 / 8] = 0xfe;
  EXPECT_TRAP(RunV86(v_out, 2 | kIopl3), 0x80, 0);
  tss.io_map = sizeof tss;
}

void Returns() {
  Section("IRET to V86 mode");
  V86Registers registers;
  registers.eflags = kVM | 2;
  const auto enter = [&](uint32_t eip) {
    return Try([&registers, eip] {
      registers.eip = eip;
      asm volatile(
          "mov %%esp, %%edx\n push $0\n push $0\n push $0\n push $0\n push $0\n push $0xfff0\n"
          "push %0\n push $0x1000\n push %1\n iret"
          :
          : "r"(registers.eflags), "r"(registers.eip)
          : "edx", "memory");
    });
  };
  EXPECT_TRAP(enter(RealOffset(v_hlt)), kGP, 0);
  const Trap trap = enter(0x10000);
  EXPECT_TRAP(trap, kGP, 0);
  if (!UnderTcg()) EXPECT_EQ(trap.cs, kCode);  // before the mode is left
}

// What INT 0x21 of 8086 code finds. [SDM 3B] 20.3.3
void Extensions() {
  Section("VME");
  if (!(Cpuid(1).edx & 2)) return Skip("virtual-8086 mode extensions");
  WriteCr4(ReadCr4() | 1);
  Trap trap = RunV86(v_cli, 2 | kVIF | kIF);
  // v_end's INT 0x80 is subject to the bitmap: all ones send it to #GP below IOPL 3.
  EXPECT_TRAP(trap, kGP, 0);
  EXPECT_EQ(trap.eip, RealOffset(v_end));
  EXPECT_EQ(trap.eflags & (kVIF | kIF), kIF);
  trap = RunV86(v_sti, 2);
  EXPECT_EQ(trap.eip, RealOffset(v_sti) + 1);
  EXPECT_EQ(trap.eflags & (kVIF | kIF), kVIF);
  trap = RunV86(v_sti, 2 | kVIP);
  EXPECT_TRAP(trap, kGP, 0);
  EXPECT_EQ(trap.eip, RealOffset(v_sti));
  trap = RunV86(v_pushf, 2 | kIF);
  EXPECT_EQ(trap.frame.eax & 0x7202, 0x3002);  // IOPL 3, IF = VIF
  trap = RunV86(v_pushf, 2 | kVIF);
  EXPECT_EQ(trap.frame.eax & 0x7202, 0x3202);
  trap = RunV86(v_pushfd, 2 | kVIF);
  EXPECT_TRAP(trap, kGP, 0);
  EXPECT_EQ(trap.eip, RealOffset(v_pushfd));
  trap = RunV86(v_popf, 2, WithBx(2 | kIF | kCF | kIopl3));
  EXPECT_EQ(trap.eflags & (kVIF | kIF | kCF | kIopl3), kVIF | kCF);
  trap = RunV86(v_popf, 2 | kVIP, WithBx(2 | kIF));
  EXPECT_TRAP(trap, kGP, 0);
  EXPECT_EQ(trap.eip, RealOffset(v_popf) + 1);
  EXPECT_EQ(trap.frame.esp, 0xffee);
  trap = RunV86(v_popf, 2, WithBx(2 | kTF));
  EXPECT_EQ(trap.eip, RealOffset(v_popf) + 1);
  trap = RunV86(v_iret, 2, WithBx(2 | kIF | kCF));
  EXPECT_EQ(trap.eflags & (kVIF | kIF | kCF | kIopl3), kVIF | kCF);
  EXPECT_EQ(trap.frame.esp, 0xfff0);
  trap = RunV86(v_iret, 2 | kVIP, WithBx(2 | kIF));
  EXPECT_EQ(trap.frame.esp, 0xffea);
  EXPECT_TRAP(RunV86(v_iretd, 2, WithBx(2)), kGP, 0);

  Section("redirected interrupts");
  tss.io_map = static_cast<uint16_t>(reinterpret_cast<uint32_t>(tss.io_bitmap) -
                                     reinterpret_cast<uint32_t>(&tss));
  for (uint8_t& byte : tss.redirection) byte = 0xff;
  tss.redirection[0x21 / 8] = 0xfd;
  WriteMemory<uint16_t>(0x21 * 4, RealOffset(v_handler));
  WriteMemory<uint16_t>(0x21 * 4 + 2, kRealSegment);
  trap = RunV86(v_int, 2 | kVIF);
  EXPECT_TRAP(trap, kGP, 0);  // of INT 0x80
  EXPECT_EQ(trap.eip, RealOffset(v_int) + 2);
  EXPECT_EQ(trap.frame.ecx & 0x7202, 0x3002);  // VIF was cleared for the handler
  EXPECT_EQ(trap.frame.edx & 0x7202, 0x3202);  // pushed as IF, with IOPL 3
  EXPECT_EQ(trap.eflags & kVIF, kVIF);         // IRET brought it back
  trap = RunV86(v_int, 2 | kIopl3 | kIF);
  EXPECT_TRAP(trap, 0x80, 0);
  EXPECT_EQ(trap.frame.ecx & 0x7202, 0x3002);  // the real IF at IOPL 3
  EXPECT_EQ(trap.frame.edx & 0x7202, 0x3202);
  // INT3 is never redirected.
  tss.redirection[0] = 0;
  ResetIdtGate(kBP, kInterruptGate32 | kDpl3);
  EXPECT_TRAP(RunV86(v_int3), kBP, 0);
  ResetIdtGate(kBP);
  tss.io_map = sizeof tss;
  WriteCr4(ReadCr4() & ~1u);
}

extern "C" void UserCli();
extern "C" void UserSti();
asm(R"(
    .global UserCli, UserSti
UserCli:
    cli
    int $0x80
UserSti:
    sti
    int $0x80
)");

void ProtectedModeVirtualInterrupts() {
  Section("PVI");
  const void* cli = reinterpret_cast<const void*>(&UserCli);
  const void* sti = reinterpret_cast<const void*>(&UserSti);
  EXPECT_TRAP(RunUser(cli), kGP, 0);
  if (!(Cpuid(1).edx & 2)) return;
  WriteCr4(ReadCr4() | 2);
  Trap trap = RunUser(cli, 2 | kVIF | kIF);
  EXPECT_TRAP(trap, 0x80, 0);
  EXPECT_EQ(trap.eflags & (kVIF | kIF), kIF);
  trap = RunUser(sti, 2);
  EXPECT_TRAP(trap, 0x80, 0);
  EXPECT_EQ(trap.eflags & (kVIF | kIF), kVIF);
  EXPECT_TRAP(RunUser(sti, 2 | kVIP), kGP, 0);
  trap = RunUser(sti, 2 | kIopl3);  // IOPL 3: the real IF
  EXPECT_EQ(trap.eflags & (kVIF | kIF), kIF);
  WriteCr4(ReadCr4() & ~2u);
}

// A task whose EFLAGS image has VM begins in V86 mode. [SDM 3B] 20.2.5
void Tasks() {
  Section("V86 task");
  static Tss32 task;
  task.eip = RealOffset(v_hlt);
  task.eflags = kVM | 2;
  task.cs = kRealSegment;
  task.ss = 0x2000;
  task.esp = 0xff00;
  task.ds = 0x5555;
  task.cr3 = ReadCr3();
  task.ss0 = kData;
  task.esp0 = tss.esp0;
  task.io_map = sizeof task;
  constexpr uint16_t kTask = kFree;
  SetSegment(kTask, reinterpret_cast<uint32_t>(&task), sizeof task - 1, kTss32, kByte16);
  const Trap trap = Try([] { asm volatile("ljmp %0, $0" : : "i"(kTask) : "memory"); });
  EXPECT_TRAP(trap, kGP, 0);
  EXPECT_EQ(trap.tr, kTask);
  EXPECT_EQ(trap.eip, RealOffset(v_hlt));
  EXPECT_EQ(trap.eflags & kVM, kVM);
  EXPECT_EQ(trap.frame.v86_ds, 0x5555);
  asm volatile("clts");
  SetSegment(kTss, reinterpret_cast<uint32_t>(&tss), sizeof tss - 1, kTss32, kByte16);
  asm volatile("ltr %w0" : : "r"(uint32_t{kTss}));
}

}  // namespace

void GuestMain() {
  Entry();
  Iopl();
  Returns();
  Extensions();
  ProtectedModeVirtualInterrupts();
  Tasks();
}
