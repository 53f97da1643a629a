// What a kernel does to the pages of a program while hot loops of it run: demand paging,
// copy-on-write, other frames, other address spaces, accessed and dirty bits. [SDM 3A] 4.8, 4.10
#include "lib/process.h"

using namespace guest;

namespace {

USER_CODE(R"(
    .global walk_write, walk_sum, walk_push, walk_change, watch, yields, touch_read
    .global touch_write, touch_change, touch_push, touch_cmpxchg, touch_both
walk_write:                     # RSI words from RDI, RDX apart: each gets its own address
    mov   %rdi, (%rdi)
    add   %rdx, %rdi
    dec   %rsi
    jnz   walk_write
    int   $0x80
walk_sum:                       # RAX: their sum
    xor   %eax, %eax
1:  add   (%rdi), %rax
    add   %rdx, %rdi
    dec   %rsi
    jnz   1b
    int   $0x80
walk_change:                    # each is one more
    add   %rsi, %rsi            # carry is clear
1:  lea   -2(%rsi), %rsi
    adcq  $1, (%rdi)
    lea   (%rdi,%rdx), %rdi
    test  %rsi, %rsi
    jnz   1b
    int   $0x80
walk_push:                      # RSI words down from RDI
    mov   %rdi, %rsp
1:  push  %rsi
    push  %rsp
    call  2f
2:  sub   $2, %rsi
    jnz   1b
    int   $0x80
watch:                          # RSI rounds of many reads of (RDI), each of which ends in a call
    mov   $20, %ecx
    xor   %ebx, %ebx
1:  mov   (%rdi), %rax
    add   %rax, %rbx
    dec   %ecx
    jnz   1b
    int   $0x81
    dec   %rsi
    jnz   watch
    int   $0x80
yields:                         # RSI rounds: (RDI) counts, 8(RDI) says by how much; then a call
    mov   $10, %ecx
1:  mov   8(%rdi), %rax
    add   %rax, (%rdi)
    add   %rax, %rbx
    dec   %ecx
    jnz   1b
    int   $0x81
    dec   %rsi
    jnz   yields
    int   $0x80
    # One kind of access each, RSI times.
touch_read:
    mov   (%rdi), %rax
    dec   %rsi
    jnz   touch_read
    int   $0x80
touch_write:
    mov   %rsi, (%rdi)
    dec   %rsi
    jnz   touch_write
    int   $0x80
touch_change:
    lock xadd %rsi, (%rdi)
    int   $0x80
touch_push:
    lea   8(%rdi), %rsp
    push  %rsi
    int   $0x80
touch_cmpxchg:                  # never equal, and yet written
    mov   (%rdi), %rax
    inc   %rax
    cmpxchg %rsi, (%rdi)
    int   $0x80
touch_both:
    mov   %rsi, -4(%rdi)
    int   $0x80
)");
extern "C" const char walk_write[], walk_sum[], walk_push[], walk_change[], watch[], watch_call[];
extern "C" const char yields[], touch_read[], touch_write[], touch_change[], touch_push[];
extern "C" const char touch_cmpxchg[], touch_both[];

constexpr uint64_t kBase = 0x7f0000400000;  // where the programs have their data
constexpr unsigned kPages = 32;
constexpr uint64_t kReadOnly = kPresent | kUser;

AddressSpace* space;
uint64_t frames[kPages], copies[kPages];
unsigned faults;
uint64_t first_error;

uint64_t Page(unsigned index) {
  return kBase + 4096 * index;
}
uint64_t Word(uint64_t physical) {
  return ReadMemory<uint64_t>(physical);
}
Frame Program(const char* code, uint64_t rdi, uint64_t rsi, uint64_t rdx = 0) {
  Frame frame = UserFrame(UserLinear(code));
  frame.rdi = rdi, frame.rsi = rsi, frame.rdx = rdx;
  return frame;
}
Trap RunProgram(const char* code, uint64_t rdi, uint64_t rsi, uint64_t rdx = 0) {
  const Trap trap = Resume(Program(code, rdi, rsi, rdx));
  EXPECT_TRAP(trap, 0x80, 0);
  return trap;
}
void Unmap() {
  for (unsigned i = 0; i < kPages; ++i) {
    space->Map(Page(i), 0);
    InvalidatePage(Page(i));
  }
}

// --- Demand paging. ---
unsigned rotation;  // which frame a page gets
void OnAbsent(Frame& frame) {
  const uint64_t page = ReadCr2() & ~4095ull;
  const uint64_t index = (page - kBase) / 4096;
  EXPECT(index < kPages);
  if (faults == 0) first_error = frame.error;
  EXPECT_EQ(frame.error, first_error);
  EXPECT_EQ(space->Pte(page), 0);
  if (index >= kPages || ++faults > 1000) Finish();
  space->Map(page, frames[(index + rotation) % kPages] | kUserPage);  // and no INVLPG
}

void DemandPaging() {
  Section("demand paging");
  SetHandler(kPF, OnAbsent);
  constexpr uint64_t kStride = 24, kWords = kPages * 4096 / kStride;
  for (rotation = 0; rotation < 12; ++rotation) {
    faults = 0;
    RunProgram(walk_write, kBase, kWords, kStride);
    EXPECT_EQ(faults, kPages);
    EXPECT_EQ(first_error, 6);
    uint64_t sum = 0, wrong = 0;
    for (unsigned i = 0; i < kWords; ++i) {
      const uint64_t at = i * kStride, inside = at & 4095;
      sum += kBase + at;
      if (inside <= 4088 && Word(frames[(at / 4096 + rotation) % kPages] + inside) != kBase + at)
        ++wrong;
    }
    EXPECT_EQ(wrong, 0);
    Unmap();
    faults = 0;
    EXPECT_EQ(RunProgram(walk_sum, kBase, kWords, kStride).frame.rax, sum);
    EXPECT_EQ(faults, kPages);
    EXPECT_EQ(first_error, 4);
    EXPECT_EQ(RunProgram(walk_sum, kBase, kWords, kStride).frame.rax, sum);
    EXPECT_EQ(faults, kPages);
    // Pages come and go with a new CR3 as well.
    for (unsigned i = 0; i < kPages; ++i) space->Map(Page(i), 0);
    space->Use();
    faults = 0;
    RunProgram(walk_change, kBase, kWords, kStride);
    EXPECT_EQ(faults, kPages);
    EXPECT_EQ(RunProgram(walk_sum, kBase, kWords, kStride).frame.rax, sum + kWords);
    Unmap();
  }
  Section("a stack that grows");
  for (rotation = 0; rotation < 12; ++rotation) {
    faults = 0;
    constexpr uint64_t kEnd = kBase + kPages * 4096 - 8, kRounds = kPages * 4096 / 24;
    const Trap trap = RunProgram(walk_push, kEnd, 2 * (kRounds - 1));
    EXPECT_EQ(faults, kPages);
    EXPECT_EQ(first_error, 6);
    EXPECT_EQ(trap.frame.rsp, kEnd - 24 * (kRounds - 1));
    uint64_t wrong = 0;
    for (unsigned i = 0; i < kRounds - 1; ++i) {
      const uint64_t at = kEnd - 24 * i - 16, index = (at - kBase) / 4096;
      if (Word(frames[(index + rotation) % kPages] + (at & 4095)) != at + 8) ++wrong;
    }
    EXPECT_EQ(wrong, 0);
    Unmap();
  }
  SetHandler(kPF, nullptr);
}

// --- Copy-on-write. ---
void OnReadOnly(Frame& frame) {
  const uint64_t page = ReadCr2() & ~4095ull, index = (page - kBase) / 4096;
  EXPECT_EQ(frame.error, 7);
  if (index >= kPages || ++faults > 1000) Finish();
  for (unsigned i = 0; i < 4096; i += 8)
    WriteMemory<uint64_t>(copies[index] + i, Word(frames[index] + i));
  space->Map(page, copies[index] | kUserPage);
  InvalidatePage(page);
}

void CopyOnWrite() {
  Section("copy-on-write");
  SetHandler(kPF, OnReadOnly);
  constexpr uint64_t kWords = kPages * 512;
  for (unsigned round = 0; round < 6; ++round) {
    uint64_t sum = 0;
    for (unsigned i = 0; i < kPages; ++i) {
      for (unsigned j = 0; j < 512; ++j)
        WriteMemory<uint64_t>(frames[i] + 8 * j, (uint64_t{i} << 32) + j + round);
      space->Map(Page(i), frames[i] | kReadOnly);
      InvalidatePage(Page(i));
      sum += 512 * (uint64_t{i} << 32) + 511 * 256 + 512 * round;
    }
    faults = 0;
    EXPECT_EQ(RunProgram(walk_sum, kBase, kWords, 8).frame.rax, sum);
    EXPECT_EQ(faults, 0);
    RunProgram(walk_change, kBase, kWords, 8);
    EXPECT_EQ(faults, kPages);
    EXPECT_EQ(RunProgram(walk_sum, kBase, kWords, 8).frame.rax, sum + kWords);
    uint64_t before = 0, after = 0;
    for (unsigned i = 0; i < kPages; ++i) {
      for (unsigned j = 0; j < 512; ++j) {
        before += Word(frames[i] + 8 * j);
        after += Word(copies[i] + 8 * j);
      }
    }
    EXPECT_EQ(before, sum);
    EXPECT_EQ(after, sum + kWords);
  }
  SetHandler(kPF, nullptr);
  Unmap();
}

// --- The same page, another frame. ---
enum class How : uint8_t { kInvlpg, kCr3, kInvpcid, kInvpcidSpace, kInvpcidAll, kGlobalPages };
How how;
unsigned calls;
void OnWatch(Frame& frame) {
  const unsigned now = calls & 1;
  EXPECT_EQ(frame.rax, Word(frames[now]));
  EXPECT_EQ(frame.rbx, 20 * Word(frames[now]));
  ++calls;
  uint64_t flags = kReadOnly;
  if (calls & 4) flags |= kWrite;
  if (how == How::kGlobalPages || (calls & 2 && how == How::kInvlpg)) flags |= kGlobal;
  space->Map(Page(0), frames[!now] | flags);
  switch (how) {
    case How::kInvlpg:
      InvalidatePage(Page(0) + 123);
      break;
    case How::kCr3:
      WriteCr3(ReadCr3());
      break;
    case How::kInvpcid:
      Invpcid(0, ReadCr3() & 0xfff, Page(0));
      break;
    case How::kInvpcidSpace:
      Invpcid(1, ReadCr3() & 0xfff, 0);
      break;
    case How::kInvpcidAll:
      Invpcid(3, 0, 0);
      break;
    case How::kGlobalPages:
      WriteCr4(ReadCr4() & ~0x80ull);
      WriteCr4(ReadCr4() | 0x80);
      break;
  }
}

bool HasPcid() {
  return Cpuid(1).ecx & 1u << 17;
}
bool HasInvpcid() {
  return Cpuid(0).eax >= 7 && Cpuid(7).ebx & 1u << 10;
}
constexpr uint64_t kPcide = 1 << 17, kNoFlush = 1ull << 63;

void Remapped() {
  Section("another frame");
  SetHandler(0x81, OnWatch);
  WriteMemory<uint64_t>(frames[0], 0x1234567);
  WriteMemory<uint64_t>(frames[1], 0xfedcba98765);
  WriteCr4(ReadCr4() | 0x80);
  for (const uint64_t pcid : {0, 1, 0x777}) {
    if (pcid != 0 && !HasPcid()) break;
    if (pcid != 0) WriteCr4(ReadCr4() | kPcide);
    space->Use(pcid);
    for (how = How::kInvlpg; how <= How::kGlobalPages;
         how = static_cast<How>(static_cast<int>(how) + 1)) {
      if (how >= How::kInvpcid && how <= How::kInvpcidAll && !HasInvpcid()) continue;
      calls = 0;
      space->Map(Page(0), frames[0] | kReadOnly);
      InvalidatePage(Page(0));
      RunProgram(watch, Page(0), 600);
      EXPECT_EQ(calls, 600);
    }
  }
  space->Use();
  WriteCr4(ReadCr4() & ~(kPcide | 0x80));
  SetHandler(0x81, nullptr);
  Unmap();
}

// --- Programs at the same addresses. ---
constexpr unsigned kPrograms = 3;
struct Task {
  AddressSpace space;
  Frame frame;
  uint64_t data, cr3;
};
Task* tasks[kPrograms];
unsigned current;
uint64_t no_flush;
void OnYield(Frame& frame) {
  tasks[current]->frame = frame;
  current = (current + 1) % kPrograms;
  frame = tasks[current]->frame;
  WriteCr3(tasks[current]->cr3 | no_flush);
}

void Programs() {
  static Task storage[kPrograms];
  for (unsigned i = 0; i < kPrograms; ++i) {
    tasks[i] = &storage[i];
    tasks[i]->data = NewFrame();
    tasks[i]->space.Map(kBase, tasks[i]->data | kUserPage);
  }
  SetHandler(0x81, OnYield);
  constexpr unsigned kRounds = 500;
  for (const int form : {0, 1, 2}) {
    if (form > 0 && !HasPcid()) break;
    Section(form == 0   ? "programs at the same addresses"
            : form == 1 ? "programs with PCIDs, flushed"
                        : "programs with PCIDs");
    no_flush = form == 2 ? kNoFlush : 0;
    if (form > 0) WriteCr4(ReadCr4() | kPcide);
    for (unsigned i = 0; i < kPrograms; ++i) {
      WriteMemory<uint64_t>(tasks[i]->data, 0);
      WriteMemory<uint64_t>(tasks[i]->data + 8, 1000 + i);
      tasks[i]->frame = Program(yields, kBase, kRounds);
      tasks[i]->cr3 = tasks[i]->space.root() + (form > 0 ? i + 1 : 0);
      WriteCr3(tasks[i]->cr3);
    }
    current = 0;
    WriteCr3(tasks[0]->cr3 | no_flush);
    EXPECT_TRAP(Resume(tasks[0]->frame), 0x80, 0);
    EXPECT_EQ(current, 0);
    // The first one has come to its end; the others are one call away from theirs.
    for (unsigned i = 0; i < kPrograms; ++i) {
      EXPECT_EQ(Word(tasks[i]->data), kRounds * 10 * (1000 + i));
      if (i > 0) EXPECT_EQ(tasks[i]->frame.rbx, kRounds * 10 * (1000 + i));
      if (i > 0) EXPECT_EQ(tasks[i]->frame.rsi, 1);
    }
    // Another frame for one of them, while another runs.
    if (form > 0 && HasInvpcid()) {
      for (unsigned round = 0; round < 50; ++round) {
        const uint64_t frame = frames[round % 2];
        WriteMemory<uint64_t>(frame, round);
        tasks[1]->space.Map(kBase, frame | kReadOnly);
        WriteCr3(tasks[0]->cr3 | kNoFlush);
        Invpcid(0, tasks[1]->cr3 & 0xfff, kBase);
        WriteCr3(tasks[1]->cr3 | kNoFlush);
        EXPECT_EQ(RunProgram(touch_read, kBase, 30).frame.rax, round);
        WriteCr3(tasks[2]->cr3 | kNoFlush);
        EXPECT_EQ(RunProgram(touch_read, kBase, 30).frame.rax, kRounds * 10 * 1002);
      }
      tasks[1]->space.Map(kBase, tasks[1]->data | kUserPage);
      Invpcid(3, 0, 0);
    }
  }
  space->Use();
  WriteCr4(ReadCr4() & ~kPcide);
  SetHandler(0x81, nullptr);
}

// --- Accessed and dirty. ---
constexpr uint64_t kSeen = kAccessed | kDirty;

void AccessedAndDirty() {
  struct Touch {
    const char* name;
    const char* code;
    bool writes;
  };
  constexpr Touch kTouches[] = {{"read", touch_read, false},
                                {"write", touch_write, true},
                                {"change", touch_change, true},
                                {"push", touch_push, true},
                                {"no match", touch_cmpxchg, true}};
  for (unsigned round = 0; round < 8; ++round) {
    for (const Touch& touch : kTouches) {
      Section(touch.name);
      const uint64_t seen = touch.writes ? kSeen : uint64_t{kAccessed};
      const uint64_t page = Page(3);
      space->Map(page, frames[3] | kUserPage);
      space->Pde(page) &= ~uint64_t{kAccessed};
      InvalidatePage(page);
      RunProgram(touch.code, page + 0x128, 300);
      EXPECT_EQ(space->Pte(page), frames[3] | kUserPage | seen);
      EXPECT(space->Pde(page) & kAccessed);
      // Taken away and forgotten, they come back.
      space->Pte(page) &= ~kSeen;
      InvalidatePage(page);
      RunProgram(touch.code, page + 0x128, 1);
      EXPECT_EQ(space->Pte(page) & kSeen, seen);
      space->Pte(page) &= ~uint64_t{kDirty};
      space->Use();
      RunProgram(touch_read, page, 20);
      EXPECT_EQ(space->Pte(page) & kSeen, kAccessed);
      RunProgram(touch.code, page + 0x128, 1);
      EXPECT_EQ(space->Pte(page) & kSeen, seen);
      // A write that is not allowed leaves no trace; TCG's may have been read first.
      space->Map(page, frames[3] | kReadOnly);
      InvalidatePage(page);
      const Trap trap = Resume(Program(touch.code, page, 1));
      EXPECT_TRAP(trap, touch.writes ? kPF : 0x80, touch.writes ? 7 : 0);
      EXPECT_EQ(space->Pte(page) & kDirty, 0);
    }
    Section("dirty across");
    for (const unsigned page : {4, 5}) {
      space->Map(Page(page), frames[page] | kUserPage);
      InvalidatePage(Page(page));
    }
    RunProgram(touch_both, Page(5), 0x1122334455667788);
    EXPECT_EQ(space->Pte(Page(4)) & kSeen, kSeen);
    EXPECT_EQ(space->Pte(Page(5)) & kSeen, kSeen);
    EXPECT_EQ(ReadMemory<uint32_t>(frames[4] + 4092), 0x55667788);
    EXPECT_EQ(ReadMemory<uint32_t>(frames[5]), 0x11223344);
  }
  Section("code is accessed");
  const uint64_t code = UserLinear(touch_read) & ~4095ull;
  space->Pte(code) &= ~kSeen;
  InvalidatePage(code);
  RunProgram(touch_read, Page(4), 300);
  EXPECT_EQ(space->Pte(code) & kSeen, kAccessed);
  Unmap();
}

void LargePages() {
  Section("large pages");
  constexpr uint64_t kLinear = 0x7f0001200000, kPhysical = 0x1a00000;
  for (unsigned round = 0; round < 4; ++round) {
    const uint64_t physical = kPhysical + (round & 1) * 0x200000;
    space->Pde(kLinear) = physical | kUserPage | kLarge;
    InvalidatePage(kLinear + 0x5000);
    RunProgram(walk_sum, kLinear, 1000, 0x200);
    EXPECT_EQ(space->Pde(kLinear) & kSeen, kAccessed);
    RunProgram(walk_write, kLinear + round, 0x1ff000 / 0x208, 0x208);
    EXPECT_EQ(space->Pde(kLinear) & kSeen, kSeen);
    uint64_t wrong = 0;
    for (uint64_t at = round; at < 0x1fe000; at += 0x208)
      if (Word(physical + at) != kLinear + at) ++wrong;
    EXPECT_EQ(wrong, 0);
    // In its stead small pages, of which one is another.
    const uint64_t table = NewFrame();
    for (unsigned i = 0; i < 512; ++i)
      WriteMemory<uint64_t>(table + 8 * i, (physical + 4096 * i) | kReadOnly);
    WriteMemory<uint64_t>(table + 8 * 9, frames[9] | kReadOnly);
    WriteMemory<uint64_t>(frames[9] + 8, 0x99);
    space->Pde(kLinear) = table | kUserPage;
    space->Use();
    EXPECT_EQ(RunProgram(touch_read, kLinear + 0x9008, 300).frame.rax, 0x99);
    EXPECT_EQ(RunProgram(touch_read, kLinear + 0xa008, 300).frame.rax, Word(physical + 0xa008));
    EXPECT_TRAP(Resume(Program(touch_write, kLinear + 0x9008, 1)), kPF, 7);
    space->Pde(kLinear) = 0;
    InvalidatePage(kLinear + 0x9000);
    EXPECT_TRAP(Resume(Program(touch_read, kLinear + 0x9008, 1)), kPF, 4);
  }
}

}  // namespace

void GuestMain() {
  StartProcesses();
  SetGateDpl(0x81, 3);
  static AddressSpace process;
  space = &process;
  for (unsigned i = 0; i < kPages; ++i) frames[(i * 7 + 3) % kPages] = NewFrame();
  for (uint64_t& copy : copies) copy = NewFrame();
  process.Use();
  DemandPaging();
  CopyOnWrite();
  Remapped();
  Programs();
  AccessedAndDirty();
  LargePages();
}
