// Code at CPL 3 that changes while it is hot: by itself, by another linear address, by the kernel,
// by another program; and pages of code that come, go and change. [SDM 3A] 8.1.3, 11.6
#include "lib/process.h"

using namespace guest;

namespace {

// Programs that write `mov $RSI, %eax; ret` to RDI in RSI rounds, in their own way each, and call
// it. RDX is a place for 16 bytes. They end at UD2 when the call did something else.
asm(R"(
    .macro writer name
    .global \name
    .pushsection .user, "ax"
\name:
    mov   %esi, %eax
    shl   $8, %rax
    movabs $0xc300000000b8, %rcx
    or    %rcx, %rax
    jmp   \name\()_write
\name\()_written:
    call  *%rdi
    cmp   %esi, %eax
    jne   bad
    dec   %esi
    jnz   \name
    int   $0x80
\name\()_write:
    .endm
    .macro written name
    jmp   \name\()_written
    .popsection
    .endm

    .pushsection .user, "ax"
bad: ud2
    .popsection
    writer by_mov
    mov   %rax, (%rdi)
    written by_mov
    writer by_bytes
    .irp  at, 0, 1, 2, 3, 4, 5
    mov   %al, \at(%rdi)
    shr   $8, %rax
    .endr
    written by_bytes
    writer by_xchg
    xchg  %rax, (%rdi)
    written by_xchg
    writer by_sse
    movq  %rax, %xmm0
    movups %xmm0, (%rdi)
    written by_sse
    writer by_push
    mov   %rsp, %rbx
    lea   8(%rdi), %rsp
    push  %rax
    mov   %rbx, %rsp
    written by_push
    writer by_stos
    stosq
    sub   $8, %rdi
    written by_stos
    writer by_rep
    mov   %rax, (%rdx)
    push  %rsi
    mov   %rdx, %rsi
    mov   $6, %ecx
    rep movsb
    pop   %rsi
    sub   $6, %rdi
    written by_rep
    writer by_add               # the operand alone changes
    movl  $0, 1(%rdi)
    add   %esi, 1(%rdi)
    movb  $0xb8, (%rdi)
    movb  $0xc3, 5(%rdi)
    written by_add
    writer by_x87
    mov   %rax, (%rdx)
    fildll (%rdx)
    fistpll (%rdi)
    written by_x87

    .pushsection .user, "ax"
    .global by_alias, alias_end, ahead, ahead_end, beside, beside_end, call_it, jump_it, return_it
    .global goes_on, goes_on_end, counts, counts_end, reads, reads_end
by_alias:                       # writes at RDX what it calls at RDI: serializes in between
    mov   %esi, 1(%rdx)
    xor   %eax, %eax
    mov   %rdx, %r8
    cpuid
    mov   %r8, %rdx
    call  *%rdi
    cmp   %esi, %eax
    jne   bad
    dec   %esi
    jnz   by_alias
    int   $0x80
    # Position-independent, on a page of their own.
ahead:                          # changes the instruction that follows
    mov   %sil, 1f+1(%rip)
1:  mov   $0, %al
    cmp   %sil, %al
    jne   2f
    dec   %esi
    jnz   ahead
    int   $0x80
2:  ud2
ahead_end:
beside:                         # RSI rounds: data between its own code
    incq  3f(%rip)
    mov   3f(%rip), %rax
    add   %rax, %rbx
    call  2f
    dec   %esi
    jnz   beside
    int   $0x80
    .balign 8
3:  .quad 0
2:  lock addl $2, 4f(%rip)
    ret
4:  .long 0
beside_end:
reads:                          # RDX bytes of code from RDI, RSI times: their sum in RAX
    xor   %eax, %eax
    xor   %ecx, %ecx
1:  movzbl (%rdi,%rcx), %ebx
    add   %rbx, %rax
    inc   %rcx
    cmp   %rdx, %rcx
    jne   1b
    dec   %rsi
    jnz   reads
    int   $0x80
reads_end:
    # The three ways to RDI; RSI rounds, and one call to the kernel each.
call_it:
    call  *%rdi
    int   $0x81
    dec   %rsi
    jnz   call_it
    int   $0x80
jump_it:
    lea   1f(%rip), %r8
    push  %r8
    jmp   *%rdi
1:  int   $0x81
    dec   %rsi
    jnz   jump_it
    int   $0x80
return_it:
    lea   1f(%rip), %r8
    push  %r8
    push  %rdi
    ret
1:  int   $0x81
    dec   %rsi
    jnz   return_it
    int   $0x80
    .popsection
)");
extern "C" const char by_mov[], by_bytes[], by_xchg[], by_sse[], by_push[], by_stos[], by_rep[];
extern "C" const char by_add[], by_x87[], by_alias[], ahead[], ahead_end[], beside[], beside_end[];
extern "C" const char reads[], reads_end[], call_it[], jump_it[], return_it[];

struct Named {
  const char* name;
  const char* code;
};
constexpr Named kWriters[] = {{"mov", by_mov},      {"bytes", by_bytes}, {"xchg", by_xchg},
                              {"SSE", by_sse},      {"push", by_push},   {"stos", by_stos},
                              {"rep movs", by_rep}, {"add", by_add},     {"x87", by_x87}};
constexpr Named kWays[] = {{"call", call_it}, {"jmp", jump_it}, {"ret", return_it}};

// Pages of code: usual, at the bottom, at the top, and over the end of a table.
constexpr uint64_t kCodes[] = {0x7f1000000000, 0, 0x10000, 0x7ffffffff000, 0x7f10003ff000};
constexpr uint64_t kScratch = 0x7f2000000000, kStack = 0x7f2000010000, kAlias = 0x7f3000007000;
constexpr uint64_t kReadOnly = kPresent | kUser, kMarker = 0x1234500000;

AddressSpace* space;
uint64_t frames[6], stack;

void Map(uint64_t linear, uint64_t entry) {
  space->Map(linear, entry);
  InvalidatePage(linear);
}
Frame Program(uint64_t rip, uint64_t rdi, uint64_t rsi, uint64_t rdx = 0) {
  Frame frame = UserFrame(rip, kStack + 4096);
  frame.rdi = rdi, frame.rsi = rsi, frame.rdx = rdx;
  return frame;
}
Trap RunProgram(uint64_t rip, uint64_t rdi, uint64_t rsi, uint64_t rdx = 0) {
  const Trap trap = Resume(Program(rip, rdi, rsi, rdx));
  EXPECT_TRAP(trap, 0x80, 0);
  EXPECT_EQ(trap.frame.rsp, kStack + 4096);
  return trap;
}
// `mov $value, %eax; ret` in a frame.
void Put(uint64_t physical, uint32_t value) {
  WriteMemory<uint64_t>(physical, 0xc300000000b8 | uint64_t{value} << 8);
}
void PutProgram(uint64_t physical, const char* begin, const char* end) {
  for (; begin != end; ++begin) WriteMemory<uint8_t>(physical++, static_cast<uint8_t>(*begin));
}

void WrittenByItself() {
  for (const uint64_t code : kCodes) {
    Map(code, frames[0] | kUserPage);
    for (const Named& writer : kWriters) {
      Section(writer.name);
      RunProgram(UserLinear(writer.code), code + 0x40, 300, kScratch);
      RunProgram(UserLinear(writer.code), code + 0xff0, 300, kScratch);
      EXPECT_EQ(ReadMemory<uint64_t>(frames[0] + 0xff0) & 0xffffffffffff, 0xc300000001b8);
    }
    Section("the next instruction");
    PutProgram(frames[0] + 0x300, ahead, ahead_end);
    RunProgram(code + 0x300, 0, 300);
    Section("data beside code");
    PutProgram(frames[0] + 0x400, beside, beside_end);
    EXPECT_EQ(RunProgram(code + 0x400, 0, 3000).frame.rbx, 3000 * 3001 / 2);
    EXPECT_EQ(
        ReadMemory<uint32_t>(frames[0] + 0x400 + static_cast<uint64_t>(beside_end - beside) - 4),
        6000);
    Section("its own code");
    PutProgram(frames[0] + 0x500, reads, reads_end);
    uint64_t sum = 0;
    for (unsigned i = 0; i < 4096; ++i) sum += ReadMemory<uint8_t>(frames[0] + i);
    EXPECT_EQ(RunProgram(code + 0x500, code, 20, 4096).frame.rax, sum);
    // Over the end of a page that follows on another frame.
    Section("over the end of a page");
    if (code == kCodes[0]) {
      Map(code + 4096, frames[1] | kUserPage);
      for (unsigned before = 1; before < 6; ++before) {
        RunProgram(UserLinear(by_mov), code + 4096 - before, 100, kScratch);
        RunProgram(UserLinear(by_bytes), code + 4096 - before, 100, kScratch);
        RunProgram(UserLinear(by_rep), code + 4096 - before, 100, kScratch);
      }
      Map(code + 4096, 0);
    }
    Map(code, 0);
  }
  Section("on the stack");
  RunProgram(UserLinear(by_mov), kStack + 0x100, 300, kScratch);
  RunProgram(UserLinear(by_push), kStack + 0x100, 300, kScratch);
}

void WrittenElsewhere() {
  Section("by another linear address");
  const uint64_t code = kCodes[0];
  for (const uint64_t flags : {kReadOnly, kUserPage}) {
    Put(frames[0] + 0x40, 0);
    Map(code, frames[0] | flags);
    Map(kAlias, frames[0] | kUserPage | kNoExecute);
    RunProgram(UserLinear(by_alias), code + 0x40, 1000, kAlias + 0x40);
    RunProgram(UserLinear(by_alias), code + 0x40, 1000, kAlias + 0x40);
  }
  Map(kAlias, 0);
  Map(code, frames[0] | kReadOnly);

  Section("by the kernel");
  static unsigned calls;
  calls = 0;
  Put(frames[0], 0);
  SetHandler(0x81, [](Frame& frame) {
    EXPECT_EQ(frame.rax, calls);
    Put(frames[0], ++calls);
  });
  for (const Named& way : kWays) RunProgram(UserLinear(way.code), code, 300);
  EXPECT_EQ(calls, 900);

  Section("by another program");
  static AddressSpace other;
  other.Map(kAlias, frames[0] | kUserPage);
  other.Map(kStack, stack | kUserPage);
  calls = 0;
  SetHandler(0x81, [](Frame& frame) {
    EXPECT_EQ(frame.rax, calls == 0 ? 900 : 1);
    ++calls;
    other.Use();
    // A program in the handler's stead: it leaves `mov $1, %eax`.
    static Frame back;
    back = frame;
    SetHandler(0x80, [](Frame& end) {
      EXPECT_EQ(end.rsi, 0);
      SetHandler(0x80, nullptr);
      end = back;
      space->Use();
    });
    frame = Program(UserLinear(by_mov), kAlias, 3);
    frame.rsp = kStack + 2048;
  });
  RunProgram(UserLinear(call_it), code, 200);
  EXPECT_EQ(calls, 200);
  SetHandler(0x81, nullptr);
  Map(code, 0);
}

// The same linear address, other code: by the page table, and by the address space.
void Remapped() {
  Section("another frame");
  const uint64_t code = kCodes[0];
  static unsigned calls;
  for (unsigned i = 0; i < 3; ++i) Put(frames[i] + 0x80, 100 + i);
  for (const Named& way : kWays) {
    Map(code, frames[0] | kReadOnly);
    calls = 0;
    SetHandler(0x81, [](Frame& frame) {
      EXPECT_EQ(frame.rax, 100 + calls % 3);
      ++calls;
      space->Map(kCodes[0], frames[calls % 3] | kReadOnly);
      if (calls & 1) {
        InvalidatePage(kCodes[0]);
      } else {
        WriteCr3(ReadCr3());
      }
    });
    RunProgram(UserLinear(way.code), code + 0x80, 300);
    EXPECT_EQ(calls, 300);
  }
  Section("another program's code");
  static AddressSpace other;
  other.Map(kStack, stack | kUserPage);
  other.Map(kCodes[0], frames[4] | kReadOnly);
  Put(frames[4] + 0x80, 444);
  Map(code, frames[0] | kReadOnly);
  calls = 0;
  SetHandler(0x81, [](Frame& frame) {
    EXPECT_EQ(frame.rax, calls & 1 ? 444 : 100);
    if (++calls & 1) {
      other.Use();
    } else {
      space->Use();
    }
  });
  for (const Named& way : kWays) RunProgram(UserLinear(way.code), code + 0x80, 300);
  EXPECT_EQ(calls, 900);
  SetHandler(0x81, nullptr);
  Map(code, 0);
}

// Fetches that fault, from hot code. [SDM 3A] 4.7
void FetchFaults() {
  SetHandler(0x81, [](Frame&) {});
  for (const uint64_t code : kCodes) {
    Put(frames[0] + 0x80, 0x80);
    for (const Named& way : kWays) {
      Section(way.name);
      const uint64_t rip = UserLinear(way.code);
      for (const uint64_t entry : {uint64_t{0}, frames[0] | kPresent | kWrite,
                                   frames[0] | kReadOnly | kNoExecute, uint64_t{0}}) {
        Map(code, frames[0] | kReadOnly);
        RunProgram(rip, code + 0x80, 100);
        Map(code, entry);
        Frame frame = Program(rip, code + 0x80, 3);
        frame.rbx = kMarker;
        const Trap trap = Resume(frame);
        EXPECT_TRAP(trap, kPF, entry != 0 ? 0x15 : 0x14);
        EXPECT_EQ(trap.cr2, code + 0x80);
        EXPECT_EQ(trap.rip, code + 0x80);
        EXPECT_EQ(trap.frame.rsp, kStack + 4088);
        EXPECT_EQ(trap.frame.rbx, kMarker);
        EXPECT_EQ(trap.frame.rsi, 3);
        // It comes: other code than before.
        Put(frames[1] + 0x80, 0x181);
        space->Map(code, frames[1] | kReadOnly);
        if (entry != 0) InvalidatePage(code);
        const Trap end = Resume(trap.frame);
        EXPECT_TRAP(end, 0x80, 0);
        EXPECT_EQ(end.frame.rax, 0x181);
        EXPECT_EQ(end.frame.rsi, 0);
      }
      for (const uint64_t bad : {0x800000000000, 0x7fffffffffffffff}) {
        const Trap trap = Resume(Program(rip, bad, 3));
        EXPECT_TRAP(trap, kGP, 0);
        // RET leaves its address on the stack, and RIP is that of the branch.
        if (trap.rip != bad) EXPECT(trap.rip - rip < 32);
      }
    }
    Map(code, 0);
  }
  Section("an instruction over the end of a page");
  const uint64_t code = kCodes[0];
  for (unsigned before = 1; before < 5; ++before) {
    Map(code, frames[0] | kReadOnly);
    Map(code + 4096, frames[1] | kReadOnly);
    for (unsigned i = 0; i < 6; ++i) {
      const uint64_t instruction = 0xc312345678b8;
      const uint64_t at = 4096 - before + i;
      WriteMemory<uint8_t>(at < 4096 ? frames[0] + at : frames[1] + at - 4096,
                           static_cast<uint8_t>(instruction >> (8 * i)));
    }
    EXPECT_EQ(RunProgram(UserLinear(call_it), code + 4096 - before, 300).frame.rax, 0x12345678);
    for (const uint64_t entry : {uint64_t{0}, frames[1] | kReadOnly | kNoExecute}) {
      Map(code + 4096, entry);
      const Trap trap = Resume(Program(UserLinear(call_it), code + 4096 - before, 2));
      EXPECT_TRAP(trap, kPF, entry != 0 ? 0x15 : 0x14);
      EXPECT_EQ(trap.cr2, code + 4096);
      EXPECT_EQ(trap.rip, code + 4096 - before);
      Map(code + 4096, frames[1] | kReadOnly);
      const Trap end = Resume(trap.frame);
      EXPECT_TRAP(end, 0x80, 0);
      EXPECT_EQ(end.frame.rax, 0x12345678);
    }
    // The second half comes from another frame.
    for (unsigned i = 0; i < 8; ++i)
      WriteMemory<uint8_t>(frames[2] + i, ReadMemory<uint8_t>(frames[1] + i));
    WriteMemory<uint8_t>(frames[2] + 4 - before, 0x99);
    Map(code + 4096, frames[2] | kReadOnly);
    EXPECT_EQ(RunProgram(UserLinear(call_it), code + 4096 - before, 300).frame.rax, 0x99345678);
  }
  Map(code, 0);
  Map(code + 4096, 0);
  SetHandler(0x81, nullptr);
}

}  // namespace

void GuestMain() {
  StartProcesses();
  SetGateDpl(0x81, 3);
  asm volatile("fninit");
  static AddressSpace process;
  space = &process;
  for (uint64_t& frame : frames) frame = NewFrame();
  stack = NewFrame();
  process.Map(kStack, stack | kUserPage);
  process.Map(kScratch, NewFrame() | kUserPage);
  process.Use();
  WrittenByItself();
  WrittenElsewhere();
  Remapped();
  FetchFaults();
}
