// Repeated string instructions of hot code at CPL 3 over the ends of pages, up and down: where a
// page is missing or may not be written, all before it is done and nothing after it, and they go
// on from there. [SDM 2B] REP: RCX, RSI and RDI tell what is done; [SDM 3A] 6.5
#include "lib/process.h"

using namespace guest;

namespace {

struct String {  // as laid out below
  const char* run;
  const char* at;
  const char* end;
  const char* name;
  uint64_t kind, size;
};
enum Kind : uint64_t { kMovs = 0, kStos = 1, kLods = 2, kCmps = 3, kScas = 4 };

// RBX rounds from R8 to R9, R10 elements, RAX; RDX are the flags.
asm(R"(
    .macro repeated kind, size, text:vararg
.Lrun\@:
    mov   %r8, %rsi
    mov   %r9, %rdi
    mov   %r10, %rcx
    mov   %r11, %rax
    push  %rdx
    popfq
.Lat\@:
    \text
.Lend\@:
    dec   %rbx
    jnz   .Lrun\@
    cld
    int   $0x80
    .pushsection .rodata.repeated, "a"
    .quad .Lrun\@, .Lat\@, .Lend\@, .Lname\@, \kind, \size
    .popsection
    .pushsection .rodata
.Lname\@: .asciz "\text"
    .popsection
    .endm

    .pushsection .rodata.repeated, "a"
    .balign 8
    .global repeated_begin, repeated_end
repeated_begin:
    .popsection
    .pushsection .user, "ax"
    repeated 0, 1, rep movsb
    repeated 0, 2, rep movsw
    repeated 0, 4, rep movsl
    repeated 0, 8, rep movsq
    repeated 1, 1, rep stosb
    repeated 1, 2, rep stosw
    repeated 1, 4, rep stosl
    repeated 1, 8, rep stosq
    repeated 2, 1, rep lodsb
    repeated 2, 8, rep lodsq
    repeated 3, 1, repe cmpsb
    repeated 3, 2, repe cmpsw
    repeated 3, 8, repe cmpsq
    repeated 4, 1, repne scasb
    repeated 4, 4, repne scasl
    repeated 4, 8, repe scasq
    .popsection
    .pushsection .rodata.repeated, "a"
repeated_end:
    .popsection
)");
extern "C" const String repeated_begin[], repeated_end[];

constexpr unsigned kPages = 3;
// What of the three pages is used, and looked at.
constexpr uint64_t kFirst = 4096 - 192, kEnd = 8192 + 192;
constexpr uint64_t kStack = 0x7f2000010000, kReadOnly = kPresent | kUser;
// Where source and destination are. The last is the top of the user's half.
constexpr uint64_t kSources[] = {0x7f1000000000, 0, 0x7fffffffd000};
constexpr uint64_t kTargets[] = {0x7f3000000000, 0x7fffffffd000, 0x10000};
constexpr uint64_t kDF = 0x400, kRF = 0x10000, kArithmetic = 0x8d5;
constexpr uint64_t kFlagsBefore = 0x891;  // OF, SF, AF, CF, as no comparison of equals leaves them
constexpr uint64_t kValue = 0x9f8e7d6c5b4a3928;

AddressSpace* space;

struct Area {
  uint64_t base;
  uint64_t frames[kPages];

  uint8_t& Byte(uint64_t linear) const {
    return *reinterpret_cast<uint8_t*>(frames[(linear - base) / 4096] + (linear & 4095));
  }
  void Map(unsigned page, uint64_t flags) const {
    space->Map(base + 4096 * page, flags != 0 ? frames[page] | flags : 0);
    InvalidatePage(base + 4096 * page);
  }
};
Area source, target;
uint8_t wanted[kPages * 4096];  // the target

#define COMPARED(flags, right) \
  "\n pushf\n pop %0" : "=r"(flags) : "q"(kValue), "q"(right) : "cc", "memory"

// One run: where it begins, what it must not touch.
struct Run {
  const String& string;
  bool down;
  uint64_t from, to, count;

  uint64_t Step() const { return down ? -string.size : string.size; }
  bool Reads() const { return string.kind != kStos && string.kind != kScas; }
  bool UsesTarget() const { return string.kind != kLods; }
  bool Writes() const { return string.kind == kMovs || string.kind == kStos; }

  Frame Program(uint64_t rounds) const {
    Frame frame = UserFrame(UserLinear(string.run), kStack + 4096);
    frame.r8 = from, frame.r9 = to, frame.r10 = count, frame.r11 = kValue, frame.rbx = rounds;
    frame.rdx = kFlagsBefore | 2 | (down ? kDF : 0);
    return frame;
  }
  // What memory is before.
  void Fill() const {
    for (uint64_t i = kFirst; i < kEnd; ++i) {
      const auto byte = static_cast<uint8_t>(i * 7 + i / 256);
      source.Byte(source.base + i) = byte;
      uint8_t other = static_cast<uint8_t>(~byte);
      if (string.kind == kScas) other = 0x11;
      target.Byte(target.base + i) = other;
      wanted[i] = other;
    }
    if (string.kind == kCmps) {  // all is alike
      for (uint64_t i = 0; i < count * string.size; ++i) {
        const uint64_t at = i - (down ? (count - 1) * string.size : 0);
        const uint8_t byte = source.Byte(from + at);
        target.Byte(to + at) = byte;
        wanted[to + at - target.base] = byte;
      }
    }
    if (string.kind == kScas && string.name[3] == 'e') {  // "repe"
      for (uint64_t i = 0; i < count * string.size; ++i) {
        const uint64_t at = to + i - (down ? (count - 1) * string.size : 0);
        const auto byte = static_cast<uint8_t>(kValue >> (8 * (i % string.size)));
        target.Byte(at) = byte;
        wanted[at - target.base] = byte;
      }
    }
  }
  // Makes in `wanted` what the first `done` elements do.
  void Do(uint64_t done) const {
    for (uint64_t i = 0; Writes() && i < done; ++i) {
      for (uint64_t j = 0; j < string.size; ++j) {
        const uint64_t at = to + i * Step() + j - target.base;
        wanted[at] = string.kind == kStos ? static_cast<uint8_t>(kValue >> (8 * j))
                                          : source.Byte(from + i * Step() + j);
      }
    }
  }
  void ExpectMemory() const {
    unsigned wrong = 0;
    for (uint64_t i = kFirst; i < kEnd; ++i)
      if (target.Byte(target.base + i) != wanted[i]) ++wrong;
    EXPECT_EQ(wrong, 0);
  }
  // The flags of the comparisons, which all come out the same.
  uint64_t Compared() const {
    constexpr uint64_t kOther = 0x1111111111111111;
    const bool equal = string.kind == kCmps || string.name[3] == 'e';
    const uint64_t right = equal ? kValue : kOther;
    uint64_t flags = 0;
    switch (string.size) {
      case 1:
        asm volatile("cmpb %b2, %b1" COMPARED(flags, right));
        break;
      case 2:
        asm volatile("cmpw %w2, %w1" COMPARED(flags, right));
        break;
      case 4:
        asm volatile("cmpl %k2, %k1" COMPARED(flags, right));
        break;
      default:
        asm volatile("cmpq %q2, %q1" COMPARED(flags, right));
        break;
    }
    return flags & kArithmetic;
  }
  // The first element that touches `page` of the area that begins at `base`, where it is visited
  // from `begin` on; and the byte.
  uint64_t FirstIn(uint64_t page, uint64_t begin, uint64_t& byte) const {
    for (uint64_t i = 0; i < count; ++i) {
      for (uint64_t j = 0; j < string.size; ++j) {
        byte = begin + i * Step() + j;
        if (byte - page < 4096) return i;
      }
    }
    return count;
  }
};

void ExpectRegisters(const Run& run, const Frame& frame, uint64_t done) {
  EXPECT_EQ(frame.rcx, run.count - done);
  EXPECT_EQ(frame.rsi, run.from + (run.Reads() ? done * run.Step() : 0));
  EXPECT_EQ(frame.rdi, run.to + (run.UsesTarget() ? done * run.Step() : 0));
  EXPECT_EQ(frame.r8, run.from);
  EXPECT_EQ(frame.r9, run.to);
  EXPECT_EQ(frame.r10, run.count);
  EXPECT_EQ(frame.rsp, kStack + 4096);
  if (run.string.kind != kLods) EXPECT_EQ(frame.rax, kValue);
}

void Faulting(const Run& run, const Area& area, unsigned page, uint64_t flags, bool write) {
  run.Fill();
  uint64_t cr2 = 0;
  const uint64_t done =
      run.FirstIn(area.base + 4096 * page, &area == &source ? run.from : run.to, cr2);
  area.Map(page, flags);
  Trap trap = Resume(run.Program(1));
  EXPECT_TRAP(trap, kPF, 4 | (write ? 2u : 0) | (flags & kPresent));
  EXPECT_EQ(trap.cr2, cr2);
  EXPECT_EQ(trap.rip, UserLinear(run.string.at));
  EXPECT_EQ(trap.rflags & kDF, run.down ? kDF : 0);
  // Between comparisons Intel's processors show the flags from before, AMD's the last one's.
  const uint64_t flags_now = trap.rflags & kArithmetic;
  if (done == 0 || run.Writes() || run.string.kind == kLods || flags_now == kFlagsBefore) {
    EXPECT_EQ(flags_now, kFlagsBefore);
  } else {
    EXPECT_EQ(flags_now, run.Compared());
  }
  if (!UnderTcg()) EXPECT_EQ(trap.rflags & kRF, kRF);
  ExpectRegisters(run, trap.frame, done);
  run.Do(done);
  run.ExpectMemory();
  area.Map(page, kUserPage);
  trap = Resume(trap.frame);
  EXPECT_TRAP(trap, 0x80, 0);
  ExpectRegisters(run, trap.frame, run.count);
  run.Do(run.count);
  run.ExpectMemory();
}

void TryAll(const Run& run) {
  run.Fill();
  Trap trap = Resume(run.Program(30));
  EXPECT_TRAP(trap, 0x80, 0);
  ExpectRegisters(run, trap.frame, run.count);
  run.Do(run.count);
  run.ExpectMemory();
  // In each of the pages, the first of which is that of the first element.
  for (unsigned page = 0; page < kPages; ++page) {
    for (const uint64_t flags : {uint64_t{0}, kPresent | kWrite, kReadOnly}) {
      if (run.Reads() && flags != kReadOnly) Faulting(run, source, page, flags, false);
      if (run.UsesTarget() && (run.Writes() || flags != kReadOnly))
        Faulting(run, target, page, flags, run.Writes());
    }
  }
}

}  // namespace

void GuestMain() {
  StartProcesses();
  static AddressSpace process;
  space = &process;
  process.Map(kStack, NewFrame() | kUserPage);
  process.Use();
  for (unsigned i = 0; i < kPages; ++i) source.frames[i] = NewFrame();
  for (unsigned i = kPages; i-- > 0;) target.frames[i] = NewFrame();
  unsigned turn = 0;
  for (const String* string = repeated_begin; string != repeated_end; ++string) {
    Section(string->name);
    for (const bool down : {false, true}) {
      // Elements that end with their page, and elements that lie over its end, on either side.
      for (const unsigned odd : {0, 5}) {
        const unsigned place = turn++ % 3;
        source.base = kSources[place], target.base = kTargets[place];
        for (unsigned i = 0; i < kPages; ++i) source.Map(i, kUserPage), target.Map(i, kUserPage);
        const uint64_t count = (4096 + 128) / string->size;
        const uint64_t low_from = source.base + 4096 - 64 + odd;
        const uint64_t low_to = target.base + 4096 - 96 + odd / 2;
        const uint64_t last = down ? (count - 1) * string->size : 0;
        TryAll({*string, down, low_from + last, low_to + last, count});
        for (unsigned i = 0; i < kPages; ++i) source.Map(i, 0), target.Map(i, 0);
      }
    }
  }
}
