// Every exception that software can provoke, with its error code and where RIP stands.
// [SDM 3A] 6.5, 6.13, 6.15
#include "lib/guest.h"

using namespace guest;

namespace {

// RIP of a fault is that of the instruction, of a trap that of the next one.
#define LABEL(name) extern "C" const char name[]
uint64_t At(const char* label) {
  return reinterpret_cast<uint64_t>(label);
}

LABEL(divide_here);
LABEL(breakpoint_next);
LABEL(undefined_here);

void Arithmetic() {
  Section("#DE");
  const Trap zero = Try([] {
    asm volatile(".global divide_here\n divide_here: divl %0" : : "r"(0), "a"(1), "d"(0) : "cc");
  });
  EXPECT_TRAP(zero, kDE, 0);
  EXPECT_EQ(zero.rip, At(divide_here));
  EXPECT_TRAP(Try([] { asm volatile("divl %0" : : "r"(1), "a"(0), "d"(1) : "cc"); }), kDE, 0);
  EXPECT_TRAP(Try([] { asm volatile("idivb %b0" : : "r"(1), "a"(0x100) : "cc"); }), kDE, 0);
  EXPECT_TRAP(Try([] {
                asm volatile("idivq %0" : : "r"(-1ll), "a"(1ull << 63), "d"(-1ll) : "cc");
              }),
              kDE, 0);
}

void Breakpoints() {
  Section("#BP");
  const Trap trap =
      Try([] { asm volatile("int3\n .global breakpoint_next\n breakpoint_next: nop"); });
  EXPECT_TRAP(trap, kBP, 0);
  EXPECT_EQ(trap.rip, At(breakpoint_next));
}

LABEL(step_target);
LABEL(hit_here);

void Debug() {
  Section("#DB");  // [SDM 3B] 17.3.1
  // The trap comes after the instruction that follows POPF.
  WriteDr6(0);
  Trap trap = Try([] {
    asm volatile(
        "pushf\n orl $0x100, (%%rsp)\n popf\n nop\n .global step_target\n step_target: nop\n nop"
        :
        :
        : "cc", "memory");
  });
  EXPECT_TRAP(trap, kDB, 0);
  EXPECT_EQ(trap.rip, At(step_target));
  EXPECT_EQ(trap.dr6 & 0x4000, 0x4000);  // BS
  EXPECT_EQ(trap.rflags & 0x100, 0x100);

  // An instruction breakpoint is a fault.
  WriteDr6(0);
  WriteDr0(At(hit_here));
  WriteDr7(0x402);  // G0, execute
  trap = Try([] { asm volatile("nop\n .global hit_here\n hit_here: nop"); });
  WriteDr7(0x400);
  EXPECT_TRAP(trap, kDB, 0);
  EXPECT_EQ(trap.rip, At(hit_here));
  EXPECT_EQ(trap.dr6 & 0xf, 1);

  // A data breakpoint is a trap.
  static volatile uint32_t watched = 0;
  WriteDr6(0);
  WriteDr0(reinterpret_cast<uint64_t>(&watched));
  WriteDr7(0x402 | 0xd0000);  // write, 4 bytes
  trap = Try([] { watched = 7; });
  WriteDr7(0x400);
  EXPECT_TRAP(trap, kDB, 0);
  EXPECT_EQ(trap.dr6 & 0xf, 1);
  EXPECT_EQ(watched, 7);
  WriteDr6(0);
  if (!UnderTcg()) EXPECT_TRAP(Try([] { asm volatile(".byte 0xf1"); }), kDB, 0);  // INT1
}

void Undefined() {
  Section("#UD");
  const Trap trap = Try([] { asm volatile(".global undefined_here\n undefined_here: ud2"); });
  EXPECT_TRAP(trap, kUD, 0);
  EXPECT_EQ(trap.rip, At(undefined_here));
  EXPECT_TRAP(Try([] { asm volatile(".byte 0xf0, 0x01, 0xc0"); }), kUD, 0);  // LOCK ADD EAX, EAX
  if (!UnderTcg())
    EXPECT_TRAP(Try([] { asm volatile(".byte 0xf0, 0x8b, 0x00"); }), kUD, 0);      // LOCK MOV
  EXPECT_TRAP(Try([] { asm volatile(".byte 0x06"); }), kUD, 0);                    // PUSH ES
  EXPECT_TRAP(Try([] { asm volatile(".byte 0x27"); }), kUD, 0);                    // DAA
  EXPECT_TRAP(Try([] { asm volatile(".byte 0xce"); }), kUD, 0);                    // INTO
  EXPECT_TRAP(Try([] { asm volatile(".byte 0xea, 0, 0, 0, 0, 8, 0"); }), kUD, 0);  // JMP far
  EXPECT_TRAP(Try([] { asm volatile(".byte 0x0f, 0xff, 0xc0"); }), kUD, 0);        // UD0
  EXPECT_TRAP(Try([] { asm volatile(".byte 0x8e, 0xc8"); }), kUD, 0);              // MOV CS, AX
  EXPECT_TRAP(Try([] { asm volatile("mov %cr1, %rax"); }), kUD, 0);
}

void Coprocessor() {
  Section("#NM");
  WriteCr0(ReadCr0() | 8);  // TS
  EXPECT_TRAP(Try([] { asm volatile("fld1"); }), kNM, 0);
  EXPECT_TRAP(Try([] { asm volatile("movaps %xmm0, %xmm1"); }), kNM, 0);
  asm volatile("clts");
  EXPECT_NO_TRAP(Try([] { asm volatile("fld1\n fstp %st(0)"); }));
  WriteCr0(ReadCr0() | 4);  // EM
  EXPECT_TRAP(Try([] { asm volatile("fld1"); }), kNM, 0);
  EXPECT_TRAP(Try([] { asm volatile("movaps %xmm0, %xmm1"); }), kUD, 0);
  WriteCr0(ReadCr0() & ~4ull);

  Section("#MF");
  EXPECT_TRAP(Try([] {
                const uint16_t unmasked = 0x37b;  // all but zero-divide masked
                asm volatile("fninit\n fldcw %0\n fld1\n fldz\n fdivrp\n fwait" : : "m"(unmasked));
              }),
              kMF, 0);
  asm volatile("fninit");

  Section("#XM");
  if (UnderTcg()) return Skip("SIMD exceptions (QEMU TCG has none)");
  EXPECT_TRAP(Try([] {
                const uint32_t unmasked = 0x1d80, one = 0x3f800000;
                asm volatile(
                    "ldmxcsr %0\n movss %1, %%xmm0\n xorps %%xmm1, %%xmm1\n divss %%xmm1, %%xmm0"
                    :
                    : "m"(unmasked), "m"(one));
              }),
              kXM, 0);
  const uint32_t standard = 0x1f80;
  asm volatile("ldmxcsr %0" : : "m"(standard));
  EXPECT_TRAP(Try([] {
                const uint32_t reserved = 0x10000;
                asm volatile("ldmxcsr %0" : : "m"(reserved));
              }),
              kGP, 0);
}

void LoadDs(uint16_t selector) {
  asm volatile("mov %0, %%ds" : : "r"(uint32_t{selector}));
}

void Selectors() {
  Section("segment loads");  // [SDM 3A] 6.13: the error code is the selector
  EXPECT_TRAP(Try([] { LoadDs(kNotPresentData); }), kNP, kNotPresentData);
  EXPECT_TRAP(Try([] { LoadDs(0x200); }), kGP, 0x200);  // beyond the table
  EXPECT_TRAP(Try([] { LoadDs(0x14); }), kGP, 0x14);    // LDT, which is empty
  EXPECT_TRAP(Try([] { LoadDs(kTss); }), kGP, kTss);    // a system segment
  EXPECT_TRAP(Try([] { LoadDs(0x202); }), kGP, 0x200);  // RPL is not in the error code
  EXPECT_NO_TRAP(Try([] { LoadDs(0); }));
  LoadDs(kData);
  EXPECT_TRAP(Try([] {
                asm volatile("mov %0, %%ss" : : "r"(uint32_t{kNotPresentData}));
              }),
              kSS, kNotPresentData);
  EXPECT_TRAP(Try([] { asm volatile("mov %0, %%ss" : : "r"(uint32_t{kCode64})); }), kGP, kCode64);
  EXPECT_TRAP(Try([] {
                asm volatile("mov %0, %%ss" : : "r"(uint32_t{kUserData}));
              }),
              kGP, kUserData & ~3);
  EXPECT_NO_TRAP(Try([] { asm volatile("mov %0, %%ss" : : "r"(0)); }));  // null at CPL 0: allowed
  asm volatile("mov %0, %%ss" : : "r"(uint32_t{kData}));
  EXPECT_TRAP(Try([] { asm volatile("ltr %w0" : : "r"(uint32_t{kTss})); }), kGP, kTss);  // busy
  EXPECT_TRAP(Try([] { asm volatile("lldt %w0" : : "r"(uint32_t{kData})); }), kGP, kData);
  EXPECT_TRAP(Try([] {
                asm volatile("push %0\n push $1f\n lretq\n 1:" : : "i"(kData));
              }),
              kGP, kData);
}

void General() {
  Section("#GP");
  if (UnderTcg()) return Skip("registers that are not there (QEMU TCG ignores such writes)");
  EXPECT_TRAP(Try([] { ReadMsr(0x12345678); }), kGP, 0);
  EXPECT_TRAP(Try([] { WriteMsr(0x12345678, 0); }), kGP, 0);
  EXPECT_TRAP(Try([] { WriteMsr(0x277, 2); }), kGP, 0);  // PAT: type 2
  if (!(ReadMsr(0x1b) & 0x400)) {  // x2APIC's registers outside its mode. [SDM 3A] 10.12.2
    EXPECT_TRAP(Try([] { ReadMsr(0x802); }), kGP, 0);
    EXPECT_TRAP(Try([] { WriteMsr(0x808, 0); }), kGP, 0);
    EXPECT_TRAP(Try([] { WriteMsr(0x83f, 0x40); }), kGP, 0);
  }
  const bool ibpb = (Cpuid(7).edx & 1u << 26) || (Cpuid(0x80000008).ebx & 1u << 12);
  EXPECT_EQ(Try([] { WriteMsr(0x49, 1); }).taken, !ibpb);  // PRED_CMD
  EXPECT_TRAP(Try([] { ReadMsr(0x49); }), kGP, 0);
  // SPEC_CTRL keeps what is written. [SDM 4] table 2-2
  if ((Cpuid(7).edx & 1u << 26) || (Cpuid(0x80000008).ebx & 1u << 14)) {
    WriteMsr(0x48, 1);
    EXPECT_EQ(ReadMsr(0x48), 1);
    EXPECT_TRAP(Try([] { WriteMsr(0x48, 1ull << 63); }), kGP, 0);
    WriteMsr(0x48, 0);
  } else {
    EXPECT_TRAP(Try([] { ReadMsr(0x48); }), kGP, 0);
  }
  // IA32_ARCH_CAPABILITIES
  EXPECT_EQ(Try([] { ReadMsr(0x10a); }).taken, !(Cpuid(7).edx & 1u << 29));
  EXPECT_TRAP(Try([] { WriteMsr(0x49, 1ull << 32); }), kGP, 0);
  EXPECT_TRAP(Try([] { WriteDr7(1ull << 32); }), kGP, 0);
  EXPECT_TRAP(Try([] { WriteMsr(0xc0000080, 1ull << 40); }), kGP, 0);
  EXPECT_TRAP(Try([] { WriteCr4(ReadCr4() & ~0x20ull); }), kGP, 0);  // PAE in long mode
  EXPECT_TRAP(Try([] { WriteCr4(ReadCr4() | 1ull << 40); }), kGP, 0);
  EXPECT_TRAP(Try([] { WriteCr0(ReadCr0() & ~1ull); }), kGP, 0);  // PG without PE
  EXPECT_TRAP(Try([] { WriteCr0((ReadCr0() | 1u << 29) & ~(1ull << 30)); }), kGP, 0);  // NW, not CD
}

// The gate of a vector as an error code: index, IDT bit. [SDM 3A] 6.13; QEMU TCG counts otherwise.
uint64_t GateError(unsigned vector) {
  return vector * (UnderTcg() ? 16 : 8) + 2;
}

void DoubleFault() {
  Section("#DF");  // [SDM 3A] 6.15, interrupt 8
  SetGateStack(kDF, 1);
  // A page fault whose own delivery faults, because its gate is not there.
  SetGateDpl(kPF, 0);
  struct [[gnu::packed]] Idtr {
    uint16_t limit;
    uint64_t base;
  } idtr;
  asm volatile("sidt %0" : "=m"(idtr));
  const uint16_t limit = idtr.limit;
  for (unsigned round = 0; round < 40; ++round) {  // until a translator has the code
    const bool twice = round % 2 == 0;
    idtr.limit = twice ? 16 * kGP - 1 : limit;  // no gate from 13 on: #PF becomes #DF
    asm volatile("lidt %0" : : "m"(idtr));
    const Trap trap = Try([] { ReadMemory<uint8_t>(kWindow + 8); });
    idtr.limit = limit;
    asm volatile("lidt %0" : : "m"(idtr));
    EXPECT_TRAP(trap, twice ? kDF : kPF, 0);
    EXPECT_EQ(trap.cr2, kWindow + 8);
    if (!UnderTcg()) EXPECT_EQ(trap.rflags & 0x10000, 0x10000);  // RF
  }
  SetGateStack(kDF, 0);

  Section("gates");
  // Beyond the IDT's limit: #GP, error = vector * 8 + IDT bit.
  idtr.limit = 16 * 0x40 - 1;
  asm volatile("lidt %0" : : "m"(idtr));
  const Trap beyond = Try([] { asm volatile("int $0x45"); });
  idtr.limit = limit;
  asm volatile("lidt %0" : : "m"(idtr));
  EXPECT_TRAP(beyond, kGP, GateError(0x45));
}

// IRETQ to the given CS and SS, at the same stack.
Trap ReturnTo(uint64_t cs, uint64_t ss) {
  return Try([=] {
    asm volatile(
        "mov %%rsp, %%rax\n push %1\n push %%rax\n pushf\n push %0\n lea 1f(%%rip), %%rax\n"
        "push %%rax\n iretq\n 1: mov %2, %%ss"
        :
        : "r"(cs), "r"(ss), "r"(uint32_t{kData})
        : "rax", "memory", "cc");
  });
}

// [SDM 2A] IRET, RET
void NullSegments() {
  Section("returns with null segments");
  EXPECT_NO_TRAP(ReturnTo(kCode64, kData));
  EXPECT_NO_TRAP(ReturnTo(kCode64, 0));
  EXPECT_TRAP(ReturnTo(0, kData), kGP, 0);
  EXPECT_TRAP(ReturnTo(3, kData), kGP, 0);
  EXPECT_TRAP(ReturnTo(kCode64, 3), kGP, 0);                   // RPL is not CPL
  EXPECT_TRAP(ReturnTo(kUserCode64, 3), kGP, 0);               // never for CPL 3
  if (!UnderTcg()) EXPECT_TRAP(ReturnTo(kCode32, 0), kGP, 0);  // compatibility mode
  EXPECT_TRAP(Try([] { asm volatile("push $0\n push $1f\n lretq\n 1:"); }), kGP, 0);
}

USER_CODE(R"(
    .global user_clac, user_cli, user_hlt, user_out, user_int, user_rdmsr, user_cr, user_aligned, user_invlpg
    .global user_int3, user_popf, user_lgdt
user_cli:    cli
             int $0x80
user_hlt:    hlt
user_out:    out %al, $0x80
             int $0x80
user_int:    int $0x40
user_int3:   int3
user_clac:   clac
user_rdmsr:  rdmsr
user_cr:     mov %cr0, %rax
user_invlpg: invlpg (%rdi)
user_lgdt:   lgdt (%rdi)
user_aligned:
             mov 1(%rdi), %eax
             int $0x80
user_popf:   push %rdi
             popf
             pushf
             pop %rax
             int $0x80
)");
extern "C" const char user_clac[], user_cli[], user_hlt[], user_out[], user_int[], user_int3[],
    user_rdmsr[], user_cr[], user_invlpg[], user_lgdt[], user_aligned[], user_popf[];

void User() {
  Section("user mode");
  for (const char* code :
       {user_cli, user_hlt, user_out, user_rdmsr, user_cr, user_invlpg, user_lgdt})
    EXPECT_TRAP(RunUser(code, UserAddress(user_cli)), kGP, 0);
  // A gate with DPL 0 is not for user mode. [SDM 3A] 6.12.1.1
  EXPECT_TRAP(RunUser(user_clac), kUD, 0);
  EXPECT_TRAP(RunUser(user_int), kGP, GateError(0x40));
  EXPECT_TRAP(RunUser(user_int3), kGP, GateError(kBP));
  SetGateDpl(kBP, 3);
  EXPECT_TRAP(RunUser(user_int3), kBP, 0);
  SetGateDpl(kBP, 0);
  // IOPL 3 lets user mode at ports and IF. [SDM 1] 18.5.1
  EXPECT_TRAP(RunUser(user_cli, 0, 0, 0x3002), 0x80, 0);
  EXPECT_TRAP(RunUser(user_out, 0, 0, 0x3002), 0x80, 0);
  // POPF changes neither IOPL nor IF of user mode.
  EXPECT_EQ(RunUser(user_popf, 0x3202).frame.rax & 0x3200, 0);
  EXPECT_EQ(RunUser(user_popf, 0x3002, 0, 0x202).frame.rax & 0x3200, 0x200);

  Section("#AC");                 // [SDM 3A] 6.15, interrupt 17
  WriteCr0(ReadCr0() | 0x40000);  // AM
  const uint64_t aligned = WindowPage(511);
  if (!UnderTcg()) EXPECT_TRAP(RunUser(user_aligned, aligned, 0, 0x40002), kAC, 0);
  EXPECT_TRAP(RunUser(user_aligned, aligned + 3, 0, 0x40002), 0x80, 0);
  EXPECT_TRAP(RunUser(user_aligned, aligned), 0x80, 0);
  WriteCr0(ReadCr0() & ~0x40000ull);

  Section("I/O permission bitmap");  // [SDM 1] 18.5.2
  tss.io_map = static_cast<uint16_t>(reinterpret_cast<uint64_t>(tss.io_bitmap) -
                                     reinterpret_cast<uint64_t>(&tss));
  for (uint8_t& byte : tss.io_bitmap) byte = 0xff;
  EXPECT_TRAP(RunUser(user_out), kGP, 0);
  tss.io_bitmap[0x80 / 8] = 0xfe;
  EXPECT_TRAP(RunUser(user_out), 0x80, 0);
  tss.io_map = sizeof tss;
}

void Returns() {
  Section("IRET");  // [SDM 2A] IRET
  EXPECT_TRAP(Try([] {
                asm volatile("push %0\n push %%rsp\n pushf\n push %1\n push $0x1000\n iretq"
                             :
                             : "i"(kData), "i"(kNotPresentData));
              }),
              kGP, kNotPresentData);  // no code segment
  EXPECT_TRAP(
      Try([] { asm volatile("push $0\n push %%rsp\n pushf\n push $0\n push $0x1000\n iretq" ::); }),
      kGP, 0);
  EXPECT_TRAP(Try([] {
                asm volatile("push %0\n push %%rsp\n pushf\n push %1\n push %2\n iretq"
                             :
                             : "i"(kData), "i"(kCode64), "r"(1ull << 62));
              }),
              kGP, 0);  // RIP is not canonical
}

}  // namespace

void GuestMain() {
  Arithmetic();
  Breakpoints();
  Debug();
  Undefined();
  Coprocessor();
  Selectors();
  General();
  NullSegments();
  DoubleFault();
  User();
  Returns();
}
