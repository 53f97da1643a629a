// No linear address of the user's half is anybody else's: what is not mapped faults, what is mapped
// is the program's memory, closely looked at where usual programs have nothing and an engine might
// keep something of its own.
#include "lib/process.h"

using namespace guest;

namespace {

USER_CODE(R"(
    .global looks, look_at, look_next, pokes, poke_at, poke_next, aliases
looks:                          # RSI addresses from RDI, RDX apart; none is there
look_at:
    mov   (%rdi), %rax
    inc   %rbx                  # never
look_next:
    add   %rdx, %rdi
    dec   %rsi
    jnz   looks
    int   $0x80
pokes:
    mov   $0x5a, %eax
poke_at:
    mov   %eax, (%rdi)
    inc   %rbx                  # never
poke_next:
    add   %rdx, %rdi
    dec   %rsi
    jnz   pokes
    int   $0x80
aliases:                        # of one page, which is at R8 as well
    add   (%rdi), %rbx
    mov   %rsi, 8(%rdi)
    cmp   %rsi, 8(%r8)
    jne   1f
    lock incq 16(%r8)
    mov   16(%rdi), %rax
    cmp   %rax, 16(%r8)
    jne   1f
    add   %rdx, %rdi
    dec   %rsi
    jnz   aliases
    int   $0x80
1:  ud2
)");
extern "C" const char looks[], look_at[], look_next[], pokes[], poke_at[], poke_next[], aliases[];

constexpr uint64_t kHalf = 1ull << 47, kPhysical = 0x1a00000, kValue = 0x1d;
struct Sweep {
  const char* name;
  uint64_t begin, end, step;
};
constexpr uint64_t kTera = 1ull << 40, kGiga = 1ull << 30, kMega = 1ull << 20;
constexpr Sweep kSweeps[] = {{"all", 8 * kGiga, kHalf, 4 * kGiga - 4096},
                             {"the middle", 0x200000000000, 0x200000000000 + kTera, 16 * kMega},
                             {"its begin", 0x200000000000, 0x200000000000 + kGiga, 64 * 1024}};

uint64_t expected, step, error, at, next, met;
void OnFault(Frame& frame) {
  EXPECT_EQ(ReadCr2(), expected);
  EXPECT_EQ(frame.error, error);
  EXPECT_EQ(frame.rip, at);
  frame.rip = next;
  expected += step;
  ++met;
  if (frame.rip != next) Finish();
}

Trap Run(const char* code, const Sweep& sweep) {
  Frame frame = UserFrame(UserLinear(code));
  frame.rdi = sweep.begin, frame.rsi = (sweep.end - sweep.begin) / sweep.step;
  frame.rdx = sweep.step, frame.r8 = kPhysical;
  expected = sweep.begin, step = sweep.step, met = 0;
  const Trap trap = Resume(frame);
  EXPECT_TRAP(trap, 0x80, 0);
  return trap;
}

void Absent() {
  SetHandler(kPF, OnFault);
  for (const Sweep& sweep : kSweeps) {
    const uint64_t count = (sweep.end - sweep.begin) / sweep.step;
    Section(sweep.name);
    at = UserLinear(look_at), next = UserLinear(look_next), error = 4;
    EXPECT_EQ(Run(looks, sweep).frame.rbx, 0);
    EXPECT_EQ(met, count);
    at = UserLinear(poke_at), next = UserLinear(poke_next), error = 6;
    EXPECT_EQ(Run(pokes, sweep).frame.rbx, 0);
    EXPECT_EQ(met, count);
  }
  SetHandler(kPF, nullptr);
}

void Aliases(AddressSpace& space) {
  // One page of 2 MiB in all places of the user's half, but those where the program itself is.
  const uint64_t directory = NewFrame(), pointers = NewFrame();
  for (unsigned i = 0; i < 512; ++i) {
    WriteMemory<uint64_t>(directory + 8 * i, kPhysical | kUserPage | kLarge);
    WriteMemory<uint64_t>(pointers + 8 * i, directory | kUserPage);
  }
  for (unsigned i = 1; i < 256; ++i) {
    const uint64_t entry = space.root() + 8 * i;
    if (!(ReadMemory<uint64_t>(entry) & kPresent))
      WriteMemory<uint64_t>(entry, pointers | kUserPage);
  }
  space.Pde(kPhysical) |= kUser;
  WriteMemory<uint64_t>(kPhysical, kValue);
  space.Use();
  for (const Sweep& sweep : kSweeps) {
    Section(sweep.name);
    // In steps of whole pages, so that all are aliases.
    Sweep even = sweep;
    if (even.step % (2 * kMega) != 0) even.step = sweep.step > kGiga ? 4 * kGiga : 2 * kMega;
    if (even.begin < 512 * kGiga) even.begin = 512 * kGiga;
    const uint64_t own = UserLinear(looks) >> 39;
    if (even.end > own << 39) even.end = own << 39;
    WriteMemory<uint64_t>(kPhysical + 16, 0);
    const uint64_t count = (even.end - even.begin) / even.step;
    EXPECT_EQ(Run(aliases, even).frame.rbx, count * kValue);
    EXPECT_EQ(ReadMemory<uint64_t>(kPhysical + 16), count);
  }
}

}  // namespace

void GuestMain() {
  StartProcesses();
  static AddressSpace space;
  space.Use();
  Absent();
  Aliases(space);
}
