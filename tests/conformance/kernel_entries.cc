// The way into the kernel by SYSCALL and back by SYSRET, hot, where any page that it needs may be
// missing: the kernel's data by SWAPGS, its stack, the user's memory between STAC and CLAC, the
// entry's own code at each byte, and where SYSRET leads to. Each fault is exact, and all is the
// same when every instruction runs by itself. [SDM 2B] SYSCALL, SYSRET, SWAPGS; [SDM 3A] 4.7, 5.8.8
#include "lib/process.h"

using namespace guest;

namespace {

asm(R"(
    .pushsection .text
    .global entry_code, entry_stac, entry_clac, entry_end, return_code, return_end
entry_code:
    swapgs
    mov   %rsp, %gs:8
    mov   %gs:0, %rsp
    push  %r11
    push  %rcx
    push  %rbp
entry_stac:
    stac
    mov   (%rdi), %rax
    add   %rax, 8(%rdi)
entry_clac:
    clac
    adc   $0, %rdx
    lock incq %gs:16
    pop   %rbp
    pop   %rcx
    pop   %r11
    mov   %gs:8, %rsp
    swapgs
    sysretq
entry_end:
return_code:
    mov   %rdi, %rcx
    mov   %rsi, %r11
    sysretq
return_end:
    .popsection
)");
USER_CODE(R"(
    .global enters
enters:
    syscall
    dec   %r15
    jnz   enters
    int   $0x80
)");
extern "C" const char entry_code[], entry_stac[], entry_clac[], entry_end[], return_code[],
    return_end[], enters[];

constexpr uint32_t kStar = 0xc0000081, kLstar = 0xc0000082, kSfmask = 0xc0000084,
                   kGsBase = 0xc0000101, kKernelGsBase = 0xc0000102;
constexpr uint64_t kAC = 1 << 18, kMasked = kAC | 0x700, kUserGs = 0x111000, kUserRsp = 0x7e57000;
constexpr uint64_t kOk = kPresent | kWrite;
constexpr unsigned kHot = 64;

bool has_smap, has_smep;
AddressSpace* space;

struct Page {
  uint64_t linear, flags;  // the latter: as it should be
  uint64_t frame = 0;
  void Set(uint64_t now) const {
    space->Map(linear, now != 0 ? frame | now : 0);
    InvalidatePage(linear);
  }
};
// What the way needs. The entry is at the end of one page, or over it into the next.
Page kernel_data{0xffff888000201000, kOk}, stack{0xffffc90000200000, kOk},
    user_data{0x7f0000003000, kUserPage},
    entry[] = {{0xffffc90000400000, kPresent}, {0xffffc90000401000, kPresent}},
    target{0x7f0000007000, kPresent | kUser};

constexpr uint64_t kDataOffset = 0x100;

struct Result {
  Trap trap;
  uint64_t gs, kernel_gs, data[3], stack[3], user[2];
};

template <class F>
void ForAll(F visit) {
  for (Page* page : {&kernel_data, &stack, &user_data, &entry[0], &entry[1], &target}) visit(*page);
}

uint64_t Word(const Page& page, uint64_t offset) {
  return ReadMemory<uint64_t>(page.frame + offset);
}

Result Run(uint64_t lstar, uint64_t rdi, uint64_t rsi, uint64_t count, bool slowly) {
  WriteMemory<uint64_t>(kernel_data.frame, stack.linear + 4096);
  for (unsigned i = 1; i < 3; ++i) WriteMemory<uint64_t>(kernel_data.frame + 8 * i, 0);
  for (unsigned i = 1; i <= 3; ++i) WriteMemory<uint64_t>(stack.frame + 4096 - 8 * i, i);
  WriteMemory<uint64_t>(user_data.frame + kDataOffset, 0xfedcba9876543210);
  WriteMemory<uint64_t>(user_data.frame + kDataOffset + 8, 0x0123456789abcdf0 + count);
  WriteMsr(kGsBase, kUserGs);
  WriteMsr(kKernelGsBase, kernel_data.linear);
  WriteMsr(kLstar, lstar);
  Frame frame = UserFrame(UserLinear(enters), kUserRsp);
  frame.rdi = rdi, frame.rsi = rsi, frame.r15 = count;
  frame.rax = 0xaaaa, frame.rdx = 0xdddd, frame.rbp = 0xbbbb;
  frame.rflags |= kAC | 0x8d5;
  Result result;
  {
    const Slowly guard(slowly);
    result.trap = Resume(frame);
  }
  result.gs = ReadMsr(kGsBase);
  result.kernel_gs = ReadMsr(kKernelGsBase);
  for (unsigned i = 0; i < 3; ++i) result.data[i] = Word(kernel_data, 8 * i);
  for (unsigned i = 0; i < 3; ++i) result.stack[i] = Word(stack, 4096 - 8 - 8 * i);
  for (unsigned i = 0; i < 2; ++i) result.user[i] = Word(user_data, kDataOffset + 8 * i);
  return result;
}

void ExpectAlike(const Result& got, const Result& wanted) {
  EXPECT_TRAP(got.trap, wanted.trap.vector, wanted.trap.error);
  if (wanted.trap.vector == kPF) EXPECT_EQ(got.trap.cr2, wanted.trap.cr2);
  const Frame &a = got.trap.frame, &b = wanted.trap.frame;
  const uint64_t all[][2] = {{a.rax, b.rax},
                             {a.rbx, b.rbx},
                             {a.rcx, b.rcx},
                             {a.rdx, b.rdx},
                             {a.rsp, b.rsp},
                             {a.rbp, b.rbp},
                             {a.rsi, b.rsi},
                             {a.rdi, b.rdi},
                             {a.r8, b.r8},
                             {a.r11, b.r11},
                             {a.r15, b.r15},
                             {a.rip, b.rip},
                             {a.cs, b.cs},
                             {a.ss, b.ss},
                             {a.rflags, b.rflags},
                             {got.gs, wanted.gs},
                             {got.kernel_gs, wanted.kernel_gs}};
  for (const auto& pair : all) EXPECT_EQ(pair[0], pair[1]);
  for (unsigned i = 0; i < 3; ++i) EXPECT_EQ(got.data[i], wanted.data[i]);
  for (unsigned i = 0; i < 3; ++i) EXPECT_EQ(got.stack[i], wanted.stack[i]);
  for (unsigned i = 0; i < 2; ++i) EXPECT_EQ(got.user[i], wanted.user[i]);
}

void CopyEntry(const char* begin, const char* end, uint64_t offset) {
  for (const char* at = begin; at != end; ++at, ++offset) {
    const uint64_t to = entry[offset >> 12].frame + (offset & 4095);
    WriteMemory<uint8_t>(to, static_cast<uint8_t>(*at));
  }
  if (has_smap || begin != entry_code) return;
  for (const char* at : {entry_stac, entry_clac}) {  // a NOP of as many bytes
    constexpr uint8_t kNop[] = {0x0f, 0x1f, 0x00};
    const uint64_t where = offset - static_cast<uint64_t>(end - at);
    for (unsigned i = 0; i < 3; ++i)
      WriteMemory<uint8_t>(entry[(where + i) >> 12].frame + ((where + i) & 4095), kNop[i]);
  }
}

// The whole way, with one page as `flags` say; the exception that must come, if any.
void Try(const char* name, const Page& page, uint64_t flags, uint64_t lstar, uint8_t vector,
         uint64_t error, uint64_t cr2) {
  Section(name);
  const uint64_t rdi = user_data.linear + kDataOffset;
  ForAll([](const Page& at) { at.Set(at.flags); });
  const Result whole = Run(lstar, rdi, 0, 1, true);
  EXPECT_TRAP(whole.trap, 0x80, 0);
  EXPECT_EQ(whole.data[2], 1);
  EXPECT_EQ(whole.gs, kUserGs);
  EXPECT_TRAP(Run(lstar, rdi, 0, kHot, false).trap, 0x80, 0);
  page.Set(flags);
  const Result slow = Run(lstar, rdi, 0, 1, true);
  Result result = Run(lstar, rdi, 0, 1, false);
  ExpectAlike(result, slow);
  EXPECT_TRAP(result.trap, vector, error);
  if (vector != kPF) return ExpectAlike(result, whole);
  EXPECT_EQ(result.trap.cr2, cr2);
  EXPECT_EQ(result.trap.cs, kCode64);
  // The page comes, and it goes on.
  page.Set(page.flags);
  const Trap after = Resume(result.trap.frame);
  EXPECT_TRAP(after, 0x80, 0);
  EXPECT_EQ(after.frame.rsp, kUserRsp);
  EXPECT_EQ(after.frame.rdx, whole.trap.frame.rdx);
  EXPECT_EQ(Word(kernel_data, 16), 1);
  EXPECT_EQ(Word(user_data, kDataOffset + 8), whole.user[1]);
  EXPECT_EQ(ReadMsr(kGsBase), kUserGs);
}

void Enter() {
  const uint64_t lstar = entry[0].linear + 0x40, rdi = user_data.linear + kDataOffset;
  CopyEntry(entry_code, entry_end, 0x40);
  Try("all there", target, target.flags, lstar, 0x80, 0, 0);
  Try("no kernel data", kernel_data, 0, lstar, kPF, 2, kernel_data.linear + 8);
  Try("kernel data read-only", kernel_data, kPresent, lstar, kPF, 3, kernel_data.linear + 8);
  Try("no stack", stack, 0, lstar, kPF, 2, stack.linear + 4088);
  Try("stack read-only", stack, kPresent, lstar, kPF, 3, stack.linear + 4088);
  Try("no user memory", user_data, 0, lstar, kPF, 0, rdi);
  Try("user memory read-only", user_data, kPresent | kUser, lstar, kPF, 3, rdi + 8);
  Try("the kernel's own memory", user_data, kOk, lstar, 0x80, 0, 0);
  Try("no entry", entry[0], 0, lstar, kPF, 0x10, lstar);
  Try("entry not to be run", entry[0], kPresent | kNoExecute, lstar, kPF, 0x11, lstar);
  if (has_smep) Try("a user's entry", entry[0], kPresent | kUser, lstar, kPF, 0x11, lstar);
  if (has_smap) {  // EFLAGS.AC comes from the user, and SFMASK clears it
    CopyEntry(entry_stac + 3, entry_end, 0x40 + static_cast<uint64_t>(entry_stac - entry_code));
    Section("no STAC");
    ForAll([](const Page& at) { at.Set(at.flags); });
    for (const bool slowly : {true, false, false, false, false, false, false}) {
      const Result result = Run(lstar, rdi, 0, 1, slowly);
      EXPECT_TRAP(result.trap, kPF, 1);
      EXPECT_EQ(result.trap.cr2, rdi);
      EXPECT_EQ(result.trap.rflags & kAC, 0);
    }
  }
}

// Its code over the end of a page, at each byte.
void EnterAcross() {
  const auto size = static_cast<uint64_t>(entry_end - entry_code);
  for (uint64_t before = 1; before < size; ++before) {
    CopyEntry(entry_code, entry_end, 4096 - before);
    const uint64_t lstar = entry[1].linear - before;
    Try("entry goes on in no page", entry[1], 0, lstar, kPF, 0x10, entry[1].linear);
    Try("entry goes on where nothing runs", entry[1], kPresent | kNoExecute, lstar, kPF, 0x11,
        entry[1].linear);
  }
}

// SYSRET to where nothing can be run, with flags of every kind.
void Return() {
  CopyEntry(return_code, return_end, 0x40);
  const uint64_t lstar = entry[0].linear + 0x40, after = UserLinear(enters) + 2;
  ForAll([](const Page& at) { at.Set(at.flags); });
  EXPECT_TRAP(Run(lstar, after, 2, kHot, false).trap, 0x80, 0);
  struct Case {
    const char* name;
    uint64_t to, flags, error;  // of `target`
  };
  const Case cases[] = {
      {"to no page", target.linear, 0, 0x14},
      {"to the kernel's page", target.linear, kPresent, 0x15},
      {"to what may not be run", target.linear, kPresent | kUser | kNoExecute, 0x15},
      {"to the kernel", lstar, target.flags, 0x15},
      {"to no address", 0x800000000000, target.flags, 0},
      {"to no address, far off", 0x4000000000000000, target.flags, 0}};
  for (const Case& one : cases) {
    for (const uint64_t rflags : {0x2ull, 0x3202ull, 0x250ad7ull, 0x30046ull}) {
      Section(one.name);
      target.Set(one.flags);
      const Result slow = Run(lstar, one.to, rflags & ~0x200ull, 1, true);
      const Result result = Run(lstar, one.to, rflags & ~0x200ull, 1, false);
      ExpectAlike(result, slow);
      EXPECT_TRAP(result.trap, one.error != 0 ? kPF : kGP, one.error);
      if (one.error == 0) continue;
      EXPECT_EQ(result.trap.cr2, one.to);
      EXPECT_EQ(result.trap.cs, kUserCode64);
      EXPECT_EQ(result.trap.rip, one.to);
    }
  }
}

}  // namespace

void GuestMain() {
  StartProcesses();
  for (const uint8_t vector : {kDB, kUD, kSS, kGP, kPF}) SetGateStack(vector, 1);
  SetGateStack(0x80, 1);
  const uint32_t features = Cpuid(0).eax >= 7 ? Cpuid(7).ebx : 0;
  has_smap = features & 1 << 20;
  has_smep = features & 1 << 7;
  WriteCr4(ReadCr4() | (has_smap ? 1u << 21 : 0) | (has_smep ? 1u << 20 : 0));
  AddressSpace process;
  space = &process;
  ForAll([](Page& page) { page.frame = NewFrame(); });
  process.Use();
  asm volatile("mov %0, %%gs" : : "r"(0));  // else the first IRET to a program forgets its base
  WriteMsr(kStar, uint64_t{kUserCode32} << 48 | uint64_t{kCode64} << 32);
  WriteMsr(kSfmask, kMasked);
  Enter();
  EnterAcross();
  Return();
}
