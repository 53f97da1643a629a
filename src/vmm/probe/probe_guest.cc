#include "vmm/probe/probe_guest.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "vmm/core/base/check.h"

// Position-independent, so that it runs wherever it is copied to. Data addresses are absolute and
// match Layout below.
asm(R"(
    .pushsection .rodata
    .global vmm_probe_code, vmm_probe_loop, vmm_probe_halt, vmm_probe_cmpxchg16b, vmm_probe_int3
    .global vmm_probe_xrstor, vmm_probe_fault, vmm_probe_breakpoint, vmm_probe_timer
    .global vmm_probe_code_end
vmm_probe_code:
vmm_probe_loop:
    in    $0xe0, %eax
    mov   %eax, %ecx
1:  dec   %rcx
    jnz   1b
    mov   $1, %al
    out   %al, $0xe4
    jmp   vmm_probe_loop

# The local APIC's timer (one-shot, 20 us) ends a HLT.
vmm_probe_halt:
    mov   $0xfee00000, %edi
    movl  $0x1ff, 0xf0(%rdi)        # SVR: enabled
    movl  $0xb, 0x3e0(%rdi)         # divide by 1
    movl  $0x40, 0x320(%rdi)        # LVT timer: one-shot, vector 0x40
    movl  $20000, 0x380(%rdi)       # initial count
    movb  $0, 0x6100
    sti
1:  hlt
    cmpb  $0, 0x6100
    je    1b
    cli
    jmp   vmm_probe_done

vmm_probe_timer:
    incb  0x6100
    movl  $0, 0xb0(%rdi)            # EOI
    iretq

vmm_probe_cmpxchg16b:
    xor   %eax, %eax
    xor   %edx, %edx
    mov   $0x1234, %ebx
    mov   $0x5678, %ecx
    lock cmpxchg16b 0x6000
    jnz   vmm_probe_fault
    cmpq  $0x5678, 0x6008
    jne   vmm_probe_fault
    jmp   vmm_probe_done

vmm_probe_int3:
    int3
    jmp   vmm_probe_done
vmm_probe_breakpoint:
    iretq

vmm_probe_xrstor:
    mov   $3, %eax
    xor   %edx, %edx
    xsave 0x6400
    xrstor 0x6400
vmm_probe_done:
    mov   $1, %al
    out   %al, $0xe4
    hlt

vmm_probe_fault:
    out   %al, $0xe8
    hlt
vmm_probe_code_end:
    .popsection
)");

extern "C" {
extern const uint8_t vmm_probe_code[], vmm_probe_loop[], vmm_probe_halt[], vmm_probe_cmpxchg16b[],
    vmm_probe_int3[], vmm_probe_xrstor[], vmm_probe_fault[], vmm_probe_breakpoint[],
    vmm_probe_timer[], vmm_probe_code_end[];
}

namespace vmm::probe {
namespace {

// Guest-physical = guest-linear addresses; see the code above for 0x6000, 0x6100 and 0x6400.
namespace layout {
constexpr uint64_t kGdt = 0x0, kTss = 0x100, kIdt = 0x1000, kPml4 = 0x2000, kPdpt = 0x3000,
                   kPdLow = 0x4000, kPdApic = 0x5000, kStackTop = 0x8000, kCode = 0x8000;
}

constexpr uint64_t kLocalApic = 0xfee00000;

uint64_t Address(const uint8_t* label) {
  return layout::kCode + (label - vmm_probe_code);
}

void Put(std::span<uint8_t> memory, uint64_t address, uint64_t value) {
  CHECK(address + 8 <= memory.size());
  std::memcpy(memory.data() + address, &value, 8);
}

// [SDM 3A] 4.5: present, writable; PS for 2 MiB pages.
void BuildPageTables(std::span<uint8_t> memory) {
  constexpr uint64_t kTable = 3, kLarge = 0x83, kUncached = 0x18;
  Put(memory, layout::kPml4, layout::kPdpt | kTable);
  Put(memory, layout::kPdpt, layout::kPdLow | kTable);
  Put(memory, layout::kPdpt + 8 * (kLocalApic >> 30), layout::kPdApic | kTable);
  Put(memory, layout::kPdLow, 0 | kLarge);
  Put(memory, layout::kPdApic + 8 * ((kLocalApic >> 21) & 511), kLocalApic | kLarge | kUncached);
}

// 64-bit interrupt gate. [SDM 3A] 6.14.1
void PutGate(std::span<uint8_t> memory, unsigned vector, const uint8_t* label) {
  constexpr uint64_t kInterruptGate = 0x8e00, kCodeSelector = 8;
  const uint64_t target = Address(label);
  Put(memory, layout::kIdt + 16 * vector,
      (target & 0xffff) | kCodeSelector << 16 | kInterruptGate << 32 | (target >> 16) << 48);
  Put(memory, layout::kIdt + 16 * vector + 8, target >> 32);
}

kvm_segment Segment(uint16_t selector, uint8_t type, bool code) {
  kvm_segment segment{};
  segment.limit = 0xffffffff;
  segment.selector = selector;
  segment.type = type;
  segment.present = segment.s = segment.g = 1;
  segment.l = code;
  segment.db = !code;
  return segment;
}

}  // namespace

std::string_view Name(Stage stage) {
  constexpr std::array<std::string_view, kStages> kNames = {"port I/O", "hlt and timer interrupt",
                                                            "cmpxchg16b", "int3", "xrstor"};
  return kNames[static_cast<unsigned>(stage)];
}

uint64_t Entry(Stage stage) {
  const uint8_t* const entries[kStages] = {vmm_probe_loop, vmm_probe_halt, vmm_probe_cmpxchg16b,
                                           vmm_probe_int3, vmm_probe_xrstor};
  return Address(entries[static_cast<unsigned>(stage)]);
}

void BuildGuest(std::span<uint8_t> memory) {
  CHECK(memory.size() == kGuestSize);
  std::fill(memory.begin(), memory.end(), 0);
  constexpr uint64_t kCode64 = 0x00af9b000000ffff, kData = 0x00cf93000000ffff;
  Put(memory, layout::kGdt + 8, kCode64);
  Put(memory, layout::kGdt + 16, kData);
  BuildPageTables(memory);
  for (unsigned vector = 0; vector < 32; ++vector) PutGate(memory, vector, vmm_probe_fault);
  PutGate(memory, 3, vmm_probe_breakpoint);
  PutGate(memory, 0x40, vmm_probe_timer);
  std::copy(vmm_probe_code, vmm_probe_code_end, memory.begin() + layout::kCode);
}

// [SDM 3A] 9.8.5, the state at its end.
void EnterLongMode(kvm_sregs& sregs, bool xsave) {
  constexpr uint64_t kPe = 1, kNe = 1 << 5, kEt = 1 << 4, kMp = 1 << 1, kPg = 1u << 31;
  constexpr uint64_t kPae = 1 << 5, kOsfxsr = 1 << 9, kOsxsave = 1 << 18;
  constexpr uint64_t kLme = 1 << 8, kLma = 1 << 10;
  sregs.cr0 = kPe | kMp | kEt | kNe | kPg;
  sregs.cr3 = layout::kPml4;
  sregs.cr4 = kPae | kOsfxsr | (xsave ? kOsxsave : 0);
  sregs.efer = kLme | kLma;
  sregs.cs = Segment(8, 0xb, true);
  sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = Segment(16, 3, false);
  sregs.tr = {};
  sregs.tr.base = layout::kTss;
  sregs.tr.limit = 0x67;
  sregs.tr.type = 0xb;  // busy 64-bit TSS
  sregs.tr.present = 1;
  sregs.ldt = {};
  sregs.ldt.unusable = 1;
  sregs.gdt.base = layout::kGdt;
  sregs.gdt.limit = 23;
  sregs.idt.base = layout::kIdt;
  sregs.idt.limit = 0xfff;
}

kvm_regs StageRegs(Stage stage) {
  kvm_regs regs{};
  regs.rip = Entry(stage);
  regs.rsp = layout::kStackTop;
  regs.rflags = 2;
  return regs;
}

void NativeLoop(uint64_t iterations) {
  asm volatile(
      "1: dec %0\n"
      "jnz 1b\n"
      : "+r"(iterations)
      :
      : "cc");
}

}  // namespace vmm::probe
