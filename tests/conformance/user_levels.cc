// What each level of the page tables takes from hot code at CPL 3, and pages of every size.
// [SDM 3A] 4.5, 4.6, 4.7
#include "lib/process.h"

using namespace guest;

namespace {

USER_CODE(R"(
    .global reads, writes, runs
reads:                          # RSI times, each with its own instruction
    mov   (%rdi), %rax
    dec   %rsi
    jnz   reads
    int   $0x80
writes:
    mov   %rsi, (%rdi)
    dec   %rsi
    jnz   writes
    int   $0x80
runs:
    call  *%rdi
    dec   %rsi
    jnz   runs
    int   $0x80
)");
extern "C" const char reads[], writes[], runs[];

constexpr uint64_t kLinear = 0x655443322000, kStack = 0x7f2000010000, kOffset = 0x128;
constexpr uint64_t kAddress = 0x000ffffffffff000, kGiga = 1 << 30;
constexpr uint64_t kReturn = 0xc3c3c3c3c3c3c3c3;
enum Error : uint64_t { kP = 1, kW = 2, kU = 4, kRsvd = 8, kI = 16 };

struct Kind {
  const char* name;
  const char* code;
  uint64_t error;
};
constexpr Kind kKinds[] = {
    {"read", reads, kU}, {"write", writes, kU | kW}, {"fetch", runs, kU | kI}};

AddressSpace* space;
uint64_t ram;

Trap Run(const char* code, uint64_t linear, uint64_t count) {
  Frame frame = UserFrame(UserLinear(code), kStack + 4096);
  frame.rdi = linear, frame.rsi = count;
  return Resume(frame);
}
// Writes leave a RET as well: the count of rounds is one, or ends as one.
void Refill() {
  WriteMemory<uint64_t>(ram + kOffset, kReturn);
}

volatile uint64_t* Entry(uint64_t linear, unsigned level) {
  uint64_t table = space->root();
  for (unsigned at = 3;; --at) {
    auto* entry = reinterpret_cast<volatile uint64_t*>(table + 8 * (linear >> (12 + 9 * at) & 511));
    if (at == level) return entry;
    table = *entry & kAddress;
  }
}

struct Change {
  const char* name;
  uint64_t set, clear;
  uint64_t taken;  // which errors' bits it refuses; 0: all
  uint64_t also;   // in the error code
};

void Try(unsigned level, const Change& change) {
  for (const Kind& kind : kKinds) {
    Section(change.name);
    volatile uint64_t& entry = *Entry(kLinear, level);
    Refill();
    EXPECT_TRAP(Run(kind.code, kLinear + kOffset, 300), 0x80, 0);
    const uint64_t before = entry;
    entry = (before | change.set) & ~change.clear;
    InvalidatePage(kLinear);
    Refill();
    const Trap trap = Run(kind.code, kLinear + kOffset, 1);
    if (change.taken == 0 || (kind.error & change.taken)) {
      EXPECT_TRAP(trap, kPF, kind.error | change.also);
      EXPECT_EQ(trap.cr2, kLinear + kOffset);
      const bool fetch = kind.error & kI;
      EXPECT_EQ(trap.rip, fetch ? kLinear + kOffset : UserLinear(kind.code));
      EXPECT_EQ(ReadMemory<uint64_t>(ram + kOffset), kReturn);
    } else {
      EXPECT_TRAP(trap, 0x80, 0);
    }
    entry = before;
    if (change.clear != kPresent) InvalidatePage(kLinear);
    Refill();
    EXPECT_TRAP(Run(kind.code, kLinear + kOffset, 1), 0x80, 0);
  }
}

void Levels() {
  const unsigned width = Cpuid(0x80000008).eax & 0xff;
  for (unsigned level = 0; level < 4; ++level) {
    Try(level, {"absent", 0, kPresent, 0, 0});
    Try(level, {"supervisor", 0, kUser, 0, kP});
    Try(level, {"read-only", 0, kWrite, kW, kP});
    Try(level, {"no-execute", kNoExecute, 0, kI, kP});
    Try(level, {"read-only and no-execute", kNoExecute, kWrite, kW | kI, kP});
    if (UnderTcg()) continue;  // which forgets P where bits are reserved
    if (width < 52) Try(level, {"reserved", 1ull << width, 0, 0, kP | kRsvd});
    if (level == 3) Try(level, {"a large page at the top", kLarge, 0, 0, kP | kRsvd});
  }
}

// Pages of 2 MiB and 1 GiB, in which there is more than memory.
void Sizes() {
  for (const unsigned level : {1u, 2u}) {
    if (level == 2 && !(Cpuid(0x80000001).edx & 1u << 26)) return Skip("pages of 1 GiB");
    Section(level == 1 ? "2 MiB" : "1 GiB");
    const uint64_t size = level == 1 ? 2 << 20 : kGiga;
    const uint64_t linear = kLinear & ~(size - 1);
    const uint64_t inside = ram & (size - 1);
    volatile uint64_t& entry = *Entry(kLinear, level);
    const uint64_t before = entry;
    for (const uint64_t flags : {kUserPage, kPresent | kUser, kUserPage | kNoExecute}) {
      entry = (ram & ~(size - 1)) | flags | kLarge;
      space->Use();
      for (const Kind& kind : kKinds) {
        const bool refused =
            (kind.error & kW && !(flags & kWrite)) || (kind.error & kI && (flags & kNoExecute));
        Refill();
        const Trap trap = Run(kind.code, linear + inside + kOffset, 300);
        EXPECT_TRAP(trap, refused ? kPF : 0x80, refused ? kind.error | kP : 0);
        if (refused) EXPECT_EQ(trap.cr2, linear + inside + kOffset);
        if (kind.error & kW && !refused) EXPECT_EQ(ReadMemory<uint64_t>(ram + kOffset), 1);
      }
      EXPECT_EQ(entry & kDirty, flags & kWrite ? uint64_t{kDirty} : 0);
    }
    if (level == 2) {
      // Behind the memory is nobody.
      const uint64_t there = ReadMemory<uint64_t>(kKernelHalf + 0x38000000);
      EXPECT_EQ(Run(reads, linear + 0x38000000, 300).frame.rax, there);
    }
    // INVLPG forgets all of a large page.
    entry = before;
    InvalidatePage(linear + (inside ^ 0x3000));
    Refill();
    EXPECT_TRAP(Run(reads, kLinear + kOffset, 300), 0x80, 0);
    EXPECT_TRAP(Run(writes, kLinear + kOffset, 300), 0x80, 0);
    EXPECT_EQ(ReadMemory<uint64_t>(ram + kOffset), 1);
  }
}

}  // namespace

void GuestMain() {
  StartProcesses();
  static AddressSpace process;
  space = &process;
  ram = NewFrame();
  process.Map(kStack, NewFrame() | kUserPage);
  process.Map(kLinear, ram | kUserPage);
  process.Use();
  Levels();
  Sizes();
}
