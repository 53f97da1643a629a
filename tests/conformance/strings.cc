// String instructions of every operand and address size, against a model of them; faults and
// interrupts in their midst. [SDM 1] 7.3.9, [SDM 2B] REP, [SDM 3A] 6.5, 6.6
#include "lib/apic.h"
#include "lib/guest.h"

using namespace guest;

extern "C" uint64_t boot_pds[];

namespace {

enum Operation : uint8_t { kMovs = 0xa4, kCmps = 0xa6, kStos = 0xaa, kLods = 0xac, kScas = 0xae };
enum Repeat : uint8_t { kOnce = 0, kRepne = 0xf2, kRep = 0xf3 };
constexpr uint64_t kCarry = 1, kParity = 4, kAdjust = 0x10, kZero = 0x40, kSign = 0x80,
                   kTrapFlag = 0x100, kDirection = 0x400, kOverflow = 0x800;
constexpr uint64_t kStatus = kCarry | kParity | kAdjust | kZero | kSign | kOverflow;

struct Registers {
  uint64_t rax, rcx, rsi, rdi, rflags, rdx;
};

// The instruction to be run stands in a page of its own, with a far RET behind it.
uint64_t CodePage() {
  return ScratchPage(0);
}

struct Form {
  Operation operation;
  Repeat repeat;
  unsigned size;     // bytes of an element
  unsigned address;  // bits
  bool compatible;   // 32-bit code
  bool fs;           // with an FS override
};

void Assemble(const Form& form) {
  uint64_t at = CodePage();
  const auto emit = [&](unsigned byte) { WriteMemory<uint8_t>(at++, static_cast<uint8_t>(byte)); };
  if (form.fs) emit(0x64);
  if (form.address != (form.compatible ? 32 : 64)) emit(0x67);
  if (form.repeat != kOnce) emit(form.repeat);
  if (form.size == 2) emit(0x66);
  if (form.size == 8) emit(0x48);
  emit(form.operation | (form.size > 1));
  emit(0xcb);
}

// A far call, so that the code may be of either kind.
void Run(Registers& registers, bool compatible) {
  struct [[gnu::packed]] {
    uint32_t offset;
    uint16_t selector;
  } target = {static_cast<uint32_t>(CodePage()), compatible ? kCode32 : kCode64};
  asm volatile(
      "push %%rbp\n"
      "mov %1, %%r8\n"
      "mov 0(%0), %%rax\n mov 8(%0), %%rcx\n mov 16(%0), %%rsi\n mov 24(%0), %%rdi\n"
      "mov 40(%0), %%rdx\n"
      "push 32(%0)\n popf\n"
      "lcall *(%%r8)\n"
      "pushf\n pop 32(%0)\n cld\n"
      "mov %%rax, 0(%0)\n mov %%rcx, 8(%0)\n mov %%rsi, 16(%0)\n mov %%rdi, 24(%0)\n"
      "pop %%rbp\n"
      :
      : "b"(&registers), "r"(&target)
      : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory", "cc");
}

// --- The model. ---
constexpr unsigned kArena = 256;
// Bytes in a row, where addresses wrap at `mask`.
struct Arena {
  uint64_t base, mask;
  uint64_t Address(unsigned index) const { return (base + index) & mask; }
};
uint8_t model[kArena];

uint64_t Load(const Arena& arena, uint64_t address, unsigned size) {
  uint64_t value = 0;
  for (unsigned i = 0; i < size; ++i)
    value |= uint64_t{model[(address + i - arena.base) & arena.mask]} << (8 * i);
  return value;
}
void Store(const Arena& arena, uint64_t address, unsigned size, uint64_t value) {
  for (unsigned i = 0; i < size; ++i)
    model[(address + i - arena.base) & arena.mask] = static_cast<uint8_t>(value >> (8 * i));
}

uint64_t CompareFlags(uint64_t left, uint64_t right, unsigned size) {
  const uint64_t top = uint64_t{1} << (8 * size - 1), mask = top | (top - 1);
  left &= mask, right &= mask;
  const uint64_t result = (left - right) & mask;
  uint64_t flags = 0;
  if (left < right) flags |= kCarry;
  unsigned ones = 0;
  for (unsigned bit = 0; bit < 8; ++bit) ones += result >> bit & 1;
  if (ones % 2 == 0) flags |= kParity;
  if ((left ^ right ^ result) & 0x10) flags |= kAdjust;
  if (result == 0) flags |= kZero;
  if (result & top) flags |= kSign;
  if ((left ^ right) & (left ^ result) & top) flags |= kOverflow;
  return flags;
}

uint64_t Merge(uint64_t old, uint64_t value, unsigned bytes) {  // as a write of a register does
  if (bytes == 8) return value;
  if (bytes == 4) return value & 0xffffffff;
  const uint64_t mask = (uint64_t{1} << (8 * bytes)) - 1;
  return (old & ~mask) | (value & mask);
}

void RunModel(const Form& form, const Arena& arena, uint64_t fs_base, Registers& r) {
  const uint64_t mask = form.address == 64 ? ~uint64_t{0} : (uint64_t{1} << form.address) - 1;
  const uint64_t step = r.rflags & kDirection ? -uint64_t{form.size} : form.size;
  const unsigned width = form.address / 8;
  const bool compares = form.operation == kCmps || form.operation == kScas;
  while (form.repeat == kOnce || (r.rcx & mask) != 0) {
    const uint64_t source = (r.rsi & mask) + (form.fs ? fs_base : 0), target = r.rdi & mask;
    switch (form.operation) {
      case kMovs:
        Store(arena, target, form.size, Load(arena, source, form.size));
        break;
      case kStos:
        Store(arena, target, form.size, r.rax);
        break;
      case kLods:
        r.rax = Merge(r.rax, Load(arena, source, form.size), form.size);
        break;
      case kCmps:
      case kScas: {
        const uint64_t left = form.operation == kCmps ? Load(arena, source, form.size) : r.rax;
        r.rflags =
            (r.rflags & ~kStatus) | CompareFlags(left, Load(arena, target, form.size), form.size);
        break;
      }
    }
    if (form.operation != kStos && form.operation != kScas)
      r.rsi = Merge(r.rsi, r.rsi + step, width);
    if (form.operation != kLods) r.rdi = Merge(r.rdi, r.rdi + step, width);
    if (form.repeat == kOnce) return;
    r.rcx = Merge(r.rcx, r.rcx - 1, width);
    if (compares && ((r.rflags & kZero) != 0) != (form.repeat == kRep)) return;
  }
}

// --- Random cases, always the same ones. ---
uint64_t random_state = 0x9e3779b97f4a7c15;
uint64_t Random(uint64_t below) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return (random_state >> 11) % below;
}

void OneCase(const Form& form, const Arena& arena) {
  const bool narrow = form.address != 64;
  for (unsigned i = 0; i < kArena; ++i) {
    model[i] = Random(8) == 0 ? 0xc1 : 0x41;  // so that comparisons go on for a while
    WriteMemory<uint8_t>(arena.Address(i), model[i]);
  }
  const uint64_t fs_base = form.fs ? 0x1230 : 0;
  WriteMsr(0xc0000100, fs_base);
  Registers r{};
  const unsigned count = static_cast<unsigned>(Random(9));
  // Elements that wrap do so whole.
  const unsigned align = arena.mask == ~uint64_t{0} ? 1 : form.size;
  r.rax = Random(2) ? 0x4141414141414141 : 0xc141c1414141c1c1;
  r.rcx = form.repeat == kOnce ? 0x1111 : count;
  r.rsi = arena.Address(static_cast<unsigned>(96 + Random(64) / align * align)) - fs_base;
  r.rdi = arena.Address(static_cast<unsigned>(96 + Random(64) / align * align));
  if (form.compatible && form.address == 16) {  // the upper halves are left alone
    r.rsi |= 0x12340000, r.rdi |= 0x56780000, r.rcx |= 0x9abc0000;
  } else if (!form.compatible && narrow && count != 0 && form.repeat != kOnce) {
    const uint64_t high = 0x7777777700000000;  // these are cleared, where a register is written
    r.rcx |= high;
    if (form.operation != kStos && form.operation != kScas) r.rsi |= high;
    if (form.operation != kLods) r.rdi |= high;
  }
  r.rflags = 2 | (Random(2) ? kDirection : 0) | (Random(2) ? kStatus : 0);
  Registers wanted = r;
  RunModel(form, arena, fs_base, wanted);
  Run(r, form.compatible);
  const uint64_t mask = form.compatible ? 0xffffffff : ~uint64_t{0};
  bool memory = true;
  for (unsigned i = 0; i < kArena; ++i)
    memory = memory && ReadMemory<uint8_t>(arena.Address(i)) == model[i];
  const bool good = ((r.rax ^ wanted.rax) & mask) == 0 && ((r.rcx ^ wanted.rcx) & mask) == 0 &&
                    ((r.rsi ^ wanted.rsi) & mask) == 0 && ((r.rdi ^ wanted.rdi) & mask) == 0 &&
                    r.rflags == wanted.rflags && memory;
  if (good) return;
  Print("case: operation ");
  PrintHex(form.operation);
  Print(" repeat ");
  PrintHex(form.repeat);
  Print(" size ");
  PrintHex(form.size);
  Print(" address size ");
  PrintHex(form.address);
  Print(form.compatible ? " compatible\n" : "\n");
  EXPECT(memory);
  EXPECT_EQ(r.rax & mask, wanted.rax & mask);
  EXPECT_EQ(r.rcx & mask, wanted.rcx & mask);
  EXPECT_EQ(r.rsi & mask, wanted.rsi & mask);
  EXPECT_EQ(r.rdi & mask, wanted.rdi & mask);
  EXPECT_EQ(r.rflags, wanted.rflags);
}

void Cases(const Arena& arena, unsigned address, bool compatible, unsigned rounds) {
  for (const Operation operation : {kMovs, kCmps, kStos, kLods, kScas}) {
    for (const Repeat repeat : {kOnce, kRep, kRepne}) {
      // REPNE is for comparisons.
      if (repeat == kRepne && operation != kCmps && operation != kScas) continue;
      for (unsigned size = 1; size <= (compatible ? 4 : 8); size *= 2) {
        for (unsigned round = 0; round < rounds; ++round) {
          const bool fs = !compatible && arena.mask == ~uint64_t{0} && round % 4 == 3;
          const Form form = {operation, repeat, size, address, compatible, fs};
          Assemble(form);
          OneCase(form, arena);
        }
      }
    }
  }
}

void AllForms() {
  constexpr uint64_t kTop32 = 0xffffffff, kAll = ~uint64_t{0};
  const Arena plain = {ScratchPage(1) + 0x100, kAll}, across = {ScratchPage(2) - 128, kAll};
  Section("64-bit addresses");
  Cases(plain, 64, false, 8);
  Cases({WindowPage(1) - 128, kAll}, 64, false, 8);
  Section("32-bit addresses in 64-bit code");
  Cases(across, 32, false, 8);
  Section("32-bit code");
  Cases(plain, 32, true, 8);
  Section("16-bit addresses");
  Cases({0x4000, kAll}, 16, true, 8);
  Section("16-bit addresses that wrap");
  Cases({0x10000 - 128, 0xffff}, 16, true, 8);
  Section("32-bit addresses that wrap");
  // RAM at the end of the first 4 GiB, for as long.
  auto* const table = reinterpret_cast<uint64_t*>(ScratchPage(14));
  for (unsigned i = 0; i < 512; ++i) table[i] = 0;
  table[511] = ScratchPage(13) | kPresent | kWrite;
  const uint64_t saved = boot_pds[2047];
  boot_pds[2047] = ScratchPage(14) | kPresent | kWrite;
  WriteCr3(ReadCr3());
  Cases({0x100000000 - 128, kTop32}, 32, false, 8);
  Cases({0x100000000 - 128, kTop32}, 32, true, 8);
  boot_pds[2047] = saved;
  WriteCr3(ReadCr3());
}

// --- Faults in the midst. ---
Frame fault;
uint64_t fault_address = 0;
unsigned faults = 0, absent_page = 0;

struct FaultCase {
  uint8_t opcode;  // for bytes
  bool source;     // the page that is not there is the source's
  bool writes;
};

void Faults() {
  Section("faults");
  constexpr unsigned kCount = 20, kBefore = 5;
  constexpr FaultCase kCases[] = {
      {0xa4, false, true},   // MOVS
      {0xa4, true, false},   // MOVS
      {0xa6, false, false},  // CMPS
      {0xa6, true, false},   // CMPS
      {0xaa, false, true},   // STOS
      {0xac, true, false},   // LODS
      {0xae, false, false},  // SCAS
      {0x6c, false, true},   // INS
      {0x6e, true, false},   // OUTS
  };
  constexpr uint16_t kScratchRegister = 0x3ff;  // of the serial line
  SetHandler(kPF, [](Frame& frame) {
    ++faults;
    fault = frame;
    fault_address = ReadCr2();
    MapWindow(absent_page, ScratchPage(1 + absent_page) | kPresent | kWrite);
  });
  for (const FaultCase& c : kCases) {
    const bool port = c.opcode < 0x70;
    for (unsigned size = 1; size <= (port ? 1 : 8); size *= 2) {
      for (unsigned variant = 0; variant < 8; ++variant) {
        const bool down = variant & 1, straddles = (variant & 2) && size > 1,
                   read_only = variant & 4;
        if (read_only && !c.writes) continue;
        absent_page = down ? 0 : 1;
        for (unsigned i = 0; i < 512; ++i) {
          WriteMemory<uint64_t>(ScratchPage(1) + 8 * i, 0x4141414141414141);
          WriteMemory<uint64_t>(ScratchPage(2) + 8 * i, 0x4141414141414141);
          WriteMemory<uint64_t>(ScratchPage(4) + 8 * i, 0x4141414141414141);
        }
        for (unsigned i = 0; i < 2; ++i) MapWindow(i, ScratchPage(1 + i) | kPresent | kWrite);
        MapWindow(absent_page, read_only ? ScratchPage(1 + absent_page) | kPresent : 0);
        // The element that faults begins at, or lies across, the border.
        const uint64_t border = WindowPage(1), shift = straddles ? size / 2 : 0;
        const uint64_t step = down ? -uint64_t{size} : size;
        const uint64_t first = border - shift - (down ? (straddles ? 0 : size) : 0);
        const uint64_t start = first - kBefore * step;
        const uint64_t safe = ScratchPage(4) + 0x800;
        if (port) Out8(kScratchRegister, 0x5a);
        uint64_t at = CodePage();
        WriteMemory<uint8_t>(at++, 0xf3);
        if (size == 2) WriteMemory<uint8_t>(at++, 0x66);
        if (size == 8) WriteMemory<uint8_t>(at++, 0x48);
        WriteMemory<uint8_t>(at++, static_cast<uint8_t>(c.opcode | (size > 1)));
        WriteMemory<uint8_t>(at, 0xcb);
        Registers r = {0x4141414141414141,          kCount,
                       c.source ? start : safe,     c.source ? safe : start,
                       2 | (down ? kDirection : 0), kScratchRegister};
        const Registers before = r;
        faults = 0;
        Run(r, false);
        EXPECT_EQ(faults, 1);
        EXPECT_EQ(fault.rip, CodePage());
        EXPECT_EQ(fault.error, (c.writes ? 2 : 0) | (read_only ? 1 : 0));
        EXPECT_EQ(fault.rflags & kDirection, down ? kDirection : 0);
        // Going down, the border's lower page is the one that is not there. An element across it
        // faults where it begins.
        const uint64_t expected = straddles && !down ? border : start + kBefore * step;
        EXPECT_EQ(fault_address, straddles || !down ? expected : first);
        EXPECT_EQ(fault.rcx, kCount - kBefore);
        const bool uses_source = c.opcode == 0xa4 || c.opcode == 0xa6 || c.source;
        const bool uses_target = c.opcode == 0xa4 || c.opcode == 0xa6 || !c.source;
        EXPECT_EQ(fault.rsi, before.rsi + (uses_source ? kBefore * step : 0));
        EXPECT_EQ(fault.rdi, before.rdi + (uses_target ? kBefore * step : 0));
        EXPECT_EQ(r.rcx, 0);
        EXPECT_EQ(r.rsi, before.rsi + (uses_source ? kCount * step : 0));
        EXPECT_EQ(r.rdi, before.rdi + (uses_target ? kCount * step : 0));
        if (c.opcode == 0x6c) {
          for (unsigned i = 0; i < kCount; ++i)
            EXPECT_EQ(ReadMemory<uint8_t>(start + i * step), 0x5a);
          EXPECT_EQ(ReadMemory<uint8_t>(start - step), 0x41);
          EXPECT_EQ(ReadMemory<uint8_t>(start + kCount * step), 0x41);
        }
        if (c.opcode == 0x6e) EXPECT_EQ(In8(kScratchRegister), 0x41);
      }
    }
  }
  // A store across the border leaves the first page as it was, until it can be done whole.
  static uint64_t seen;
  SetHandler(kPF, [](Frame&) {
    seen = ReadMemory<uint64_t>(WindowPage(1) - 8);
    MapWindow(1, ScratchPage(2) | kPresent | kWrite);
  });
  MapWindow(0, ScratchPage(1) | kPresent | kWrite);
  MapWindow(1, 0);
  WriteMemory<uint64_t>(ScratchPage(1) + 4088, 0x1111111111111111);
  uint64_t to = WindowPage(1) - 4, count = 1;
  asm volatile("rep stosq" : "+D"(to), "+c"(count) : "a"(0x2222222222222222) : "memory");
  EXPECT_EQ(seen, 0x1111111111111111);
  EXPECT_EQ(ReadMemory<uint64_t>(WindowPage(1) - 8), 0x2222222211111111);
  EXPECT_EQ(ReadMemory<uint32_t>(ScratchPage(2)), 0x22222222);
  SetHandler(kPF, nullptr);
}

// --- Between two elements. ---
extern "C" const char stepped[], stepped_end[], interrupted[];
unsigned steps = 0, steps_inside = 0;

void SingleStep() {
  Section("single step");  // a trap behind every element
  static uint8_t from[8], to[8];
  for (unsigned i = 0; i < 8; ++i) from[i] = static_cast<uint8_t>(i + 1), to[i] = 0;
  steps = steps_inside = 0;
  SetHandler(kDB, [](Frame& frame) {
    ++steps;
    if (frame.rip == reinterpret_cast<uint64_t>(stepped)) {
      if (frame.rcx == 5 && steps_inside == 0) return;  // the instruction before
      ++steps_inside;
      EXPECT_EQ(frame.rcx, 5 - steps_inside);
      EXPECT_EQ(to[steps_inside - 1], steps_inside);
      EXPECT_EQ(to[steps_inside], 0);
    }
    if (frame.rip == reinterpret_cast<uint64_t>(stepped_end)) {
      EXPECT_EQ(frame.rcx, 0);
      frame.rflags &= ~kTrapFlag;
    }
  });
  uint64_t count = 5;
  const void* source = from;
  void* target = to;
  asm volatile(
      "pushf\n orl $0x100, (%%rsp)\n popf\n"
      ".global stepped, stepped_end\n"
      "stepped: rep movsb\n"
      "stepped_end: nop\n"
      : "+D"(target), "+S"(source), "+c"(count)
      :
      : "memory", "cc");
  SetHandler(kDB, nullptr);
  EXPECT_EQ(count, 0);
  EXPECT_EQ(to[4], 5);
  EXPECT_EQ(to[5], 0);
  EXPECT_EQ(steps_inside, 4);
  EXPECT_EQ(steps, 5);
}

volatile unsigned interrupts = 0, inside = 0, wrong = 0;
constexpr uint64_t kBig = 0x1000000, kBigBytes = 0xc00000;  // RAM that nobody uses

void Interrupted() {
  Section("interrupts");
  EnableApic();
  SetHandler(0x41, [](Frame& frame) {
    interrupts = interrupts + 1;
    if (frame.rip == reinterpret_cast<uint64_t>(interrupted) && frame.rcx != kBigBytes) {
      inside = inside + 1;
      // Registers tell exactly how far it is, and memory agrees.
      if (frame.rdi - kBig != kBigBytes - frame.rcx) wrong = wrong + 1;
      if (ReadMemory<uint8_t>(frame.rdi - 1) != static_cast<uint8_t>(frame.rax)) wrong = wrong + 1;
      if (frame.rcx != 0 && ReadMemory<uint8_t>(frame.rdi) == static_cast<uint8_t>(frame.rax))
        wrong = wrong + 1;
    }
    EndOfInterrupt();
  });
  WriteApic(Apic::TIMER_DIVIDE, 0xb);  // by 1
  WriteApic(Apic::LVT_TIMER, 0x41);
  // About as long as the REP takes, on a quiet host and on a busy one.
  constexpr uint32_t kShortest = 8'000, kLongest = 2'000'000;
  uint32_t ticks = kShortest;
  for (unsigned round = 1; round <= 250 && inside < 3; ++round) {
    uint64_t to = kBig, count = kBigBytes;
    WriteApic(Apic::TIMER_INITIAL, ticks);
    ticks = ticks >= kLongest ? kShortest : ticks * 2;
    asm volatile("sti\n nop\n .global interrupted\n interrupted: rep stosb\n cli"
                 : "+D"(to), "+c"(count)
                 : "a"(round)
                 : "memory");
    EXPECT_EQ(count, 0);
    EXPECT_EQ(to, kBig + kBigBytes);
    EXPECT_EQ(ReadMemory<uint8_t>(kBig + kBigBytes - 1), round);
    WriteApic(Apic::TIMER_INITIAL, 0);
  }
  WriteApic(Apic::LVT_TIMER, 0x10000);
  EXPECT(inside >= 1);
  EXPECT_EQ(wrong, 0);
}

}  // namespace

void GuestMain() {
  MapWindow(0, ScratchPage(1) | kPresent | kWrite);
  MapWindow(1, ScratchPage(2) | kPresent | kWrite);
  AllForms();
  Faults();
  SingleStep();
  Interrupted();
}
