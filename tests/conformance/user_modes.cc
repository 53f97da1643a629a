// What hot code at CPL 3 may change of the processor, and memory that is none: strings down and up,
// 32-bit code in between, bases of FS and GS, ROM and places where nobody is. [SDM 3A] 3.4.4, 5.8
#include "lib/process.h"

using namespace guest;

namespace {

USER_CODE(R"(
    .global directions, modes, bases, own_selector, nobody, edges
wrong: ud2
directions:                     # RSI rounds on the words at RDI: RBX
    mov   %rsi, %r9
1:  lea   1000(%rdi), %rsi
    std
    lodsq
    mov   %rax, %r8
    lodsq
    sub   %rax, %r8             # of the words at 1000 and 992
    cld
    lodsq                       # at 984
    lodsb                       # at 992
    movzbl %al, %eax
    add   %rax, %rbx
    add   %r8, %rbx
    lea   993(%rdi), %rax
    cmp   %rax, %rsi
    jne   wrong
    dec   %r9
    jnz   1b
    int   $0x80
modes:                          # RBX rounds: 32-bit code counts at EDI
    mov   %ss, %eax
    mov   %eax, %ds             # the kernel's is taken away on the way to CPL 3
    push  $0x2b
    lea   1f(%rip), %rax
    push  %rax
    lretq
    .code32
1:  mov   (%edi), %eax
    inc   %eax                  # no REX prefix
    mov   %eax, (%edi)
    push  %eax
    pop   %ecx
    cmp   %ecx, (%edi)
    jne   wrong
    push  $0x3b
    call  2f
2:  addl  $3f - 2b, (%esp)
    lret
    .code64
3:  dec   %rbx
    jnz   modes
    int   $0x80
bases:                          # what FS and GS point to is theirs; RSI rounds, one call each
    mov   %fs:0, %rax
    mov   %gs:0, %rcx
    int   $0x81
    cmp   %r8, %rax
    jne   wrong
    cmp   %r9, %rcx
    jne   wrong
    dec   %rsi
    jnz   bases
    int   $0x80
own_selector:                   # a selector brings the descriptor's base, which is zero
    mov   %ss, %eax
    mov   %eax, %fs
    mov   %fs:(%rdi), %rcx
    cmp   (%rdi), %rcx
    jne   wrong
    push  %fs
    pop   %rdx
    cmp   %eax, %edx
    jne   wrong
    dec   %rsi
    jnz   own_selector
    int   $0x80
nobody:                         # writes that change nothing; RBX is what is there
    mov   (%rdi), %rax
    cmp   %rbx, %rax
    jne   wrong
    not   %rax
    mov   %rax, (%rdi)
    xchg  %rax, (%rdi)
    cmp   %rbx, %rax
    jne   wrong
    addl  $5, (%rdi)
    cmp   %rbx, (%rdi)
    jne   wrong
    movups (%rdi), %xmm0
    movups %xmm1, (%rdi)
    movq  %xmm0, %rax
    cmp   %rbx, %rax
    jne   wrong
    dec   %rsi
    jnz   nobody
    int   $0x80
edges:                          # half of it is memory, half is where nobody is
    mov   -4(%rdi), %rax
    cmp   %rbx, %rax
    jne   wrong
    inc   %rbx
    mov   %rbx, %rdx
    btc   $60, %rdx
    mov   %rdx, -4(%rdi)
    dec   %rsi
    jnz   edges
    int   $0x80
)");
extern "C" const char directions[], modes[], bases[], own_selector[], nobody[], edges[];

constexpr uint64_t kRam = 0x7f2000000000, kLow = 0x40000000, kLowStack = 0x40400000;
constexpr uint64_t kPages[2] = {0x7f2000010000, 0x40410000};
constexpr uint32_t kFsBase = 0xc0000100, kGsBase = 0xc0000101, kKernelGsBase = 0xc0000102;

AddressSpace* space;
uint64_t ram, pages[2];

Frame Program(uint64_t rip, uint64_t rdi, uint64_t rsi) {
  Frame frame = UserFrame(rip, kLowStack + 4096);
  frame.rdi = rdi, frame.rsi = rsi;
  return frame;
}
Trap RunProgram(const Frame& frame) {
  const Trap trap = Resume(frame);
  EXPECT_TRAP(trap, 0x80, 0);
  EXPECT_EQ(trap.frame.rsp, kLowStack + 4096);
  return trap;
}

void Directions() {
  Section("directions");
  WriteMemory<uint64_t>(ram + 1000, 1000000);
  WriteMemory<uint64_t>(ram + 992, 0x1ff);
  WriteMemory<uint64_t>(ram + 984, 3);
  const Trap trap = RunProgram(Program(UserLinear(directions), kRam, 3000));
  EXPECT_EQ(trap.frame.rbx, UINT64_C(3000) * (1000000 - 0x1ff + 0xff));
}

void Modes() {
  Section("32-bit code");
  WriteMemory<uint32_t>(ram, 0);
  space->Map(kLow + 0x500000, ram | kUserPage);
  Frame frame = Program(kLow + reinterpret_cast<uint64_t>(modes), kLow + 0x500000, 0);
  frame.rbx = 3000;
  RunProgram(frame);
  EXPECT_EQ(ReadMemory<uint32_t>(ram), 3000);
  // What 32-bit code may not touch.
  space->Map(kLow + 0x500000, ram | kPresent | kUser);
  InvalidatePage(kLow + 0x500000);
  const Trap trap = Resume(frame);
  EXPECT_TRAP(trap, kPF, 7);
  EXPECT_EQ(trap.cr2, kLow + 0x500000);
  EXPECT_EQ(trap.cs, kUserCode32);
  EXPECT_EQ(trap.frame.rax, 3001);
}

void Bases() {
  Section("bases by the kernel");
  static unsigned calls;
  calls = 0;
  for (unsigned i = 0; i < 2; ++i) WriteMemory<uint64_t>(pages[i], 1000 + i);
  const auto choose = [] {
    WriteMsr(kFsBase, kPages[calls % 2]);
    WriteMsr(kGsBase, kPages[calls / 2 % 2]);
  };
  choose();
  SetHandler(0x81, [](Frame& frame) {
    asm volatile("swapgs");  // as kernels do
    EXPECT_EQ(ReadMsr(kGsBase), 0x1234567000);
    asm volatile("swapgs");
    frame.r8 = 1000 + calls % 2, frame.r9 = 1000 + calls / 2 % 2;
    ++calls;
    WriteMsr(kFsBase, kPages[calls % 2]);
    WriteMsr(kGsBase, kPages[calls / 2 % 2]);
  });
  WriteMsr(kKernelGsBase, 0x1234567000);
  RunProgram(Program(UserLinear(bases), kRam, 2000));
  EXPECT_EQ(calls, 2000);
  SetHandler(0x81, nullptr);
  Section("selectors");
  WriteMsr(kFsBase, kPages[0]);
  RunProgram(Program(UserLinear(own_selector), kRam, 2000));
  EXPECT_EQ(ReadMsr(kFsBase), 0);
  asm volatile("mov %0, %%fs\n mov %0, %%gs" : : "r"(kData));
  WriteMsr(kGsBase, 0);
}

void NoMemory() {
  // The last page below 4 GiB has ROM or nothing; where PCI devices may be there is none.
  constexpr uint64_t kPlaces[] = {0xfffff000, 0xe8000000, 0xfffe0000};
  for (const uint64_t physical : kPlaces) {
    Section("no memory");
    const uint64_t there = ReadMemory<uint64_t>(physical + 0x128);
    space->Map(kRam + 4096, physical | kUserPage);
    InvalidatePage(kRam + 4096);
    Frame frame = Program(UserLinear(nobody), kRam + 4096 + 0x128, 1000);
    frame.rbx = there;
    RunProgram(frame);
    EXPECT_EQ(ReadMemory<uint64_t>(physical + 0x128), there);
    Section("half memory");
    const uint64_t upper = uint64_t{ReadMemory<uint32_t>(physical)} << 32;
    WriteMemory<uint32_t>(ram + 4092, 0);
    frame = Program(UserLinear(edges), kRam + 4096, 300);
    frame.rbx = upper;
    RunProgram(frame);
    EXPECT_EQ(ReadMemory<uint32_t>(ram + 4092), 300);
    EXPECT_EQ(ReadMemory<uint32_t>(physical), upper >> 32);
  }
}

}  // namespace

void GuestMain() {
  StartProcesses();
  SetGateDpl(0x81, 3);
  static AddressSpace process;
  space = &process;
  ram = NewFrame();
  process.Map(kRam, ram | kUserPage);
  process.Map(kLowStack, NewFrame() | kUserPage);
  for (unsigned i = 0; i < 2; ++i) {
    pages[i] = NewFrame();
    process.Map(kPages[i], pages[i] | kUserPage);
  }
  // The programs where 32-bit code can be as well.
  const uint64_t first = reinterpret_cast<uint64_t>(directions) & ~4095ull;
  for (const uint64_t at : {first, first + 4096}) process.Map(kLow + at, at | kPresent | kUser);
  process.Use();
  Directions();
  Modes();
  Bases();
  NoMemory();
}
