// What a conformance guest is written with. A guest is one file with
//
//   void GuestMain() { EXPECT_EQ(...); ... }
//
// Every failed expectation is a line on COM1; the debug-exit port gets 0 when there was none. The
// guest runs in 64-bit mode at CPL 0 with interrupts off, on an identity map of the first 4 GiB.
#pragma once

#include <cstdint>
#include <initializer_list>

#include "cpu.h"

void GuestMain();

namespace guest {

// --- Words and verdicts. ---
void Print(const char* text);
void PrintHex(uint64_t value);
// The part of the guest that follows, named in failures.
void Section(const char* name);
// One line for what the machine lacks; the rest of the guest goes on.
void Skip(const char* what);
[[noreturn]] void Finish();
// QEMU's translator, against which guests are checked: for what it is known to do otherwise than
// the manuals say.
bool UnderTcg();

void Expect(bool ok, const char* file, int line, const char* text);
void ExpectEqual(uint64_t got, uint64_t wanted, const char* file, int line, const char* text);
#define EXPECT(condition) ::guest::Expect((condition), __FILE__, __LINE__, #condition)
#define EXPECT_EQ(got, wanted)                                                              \
  ::guest::ExpectEqual(static_cast<uint64_t>(got), static_cast<uint64_t>(wanted), __FILE__, \
                       __LINE__, #got)

// --- Exceptions. ---
enum Vector : uint8_t {
  kDE = 0,
  kDB = 1,
  kNmi = 2,
  kBP = 3,
  kOF = 4,
  kBR = 5,
  kUD = 6,
  kNM = 7,
  kDF = 8,
  kTS = 10,
  kNP = 11,
  kSS = 12,
  kGP = 13,
  kPF = 14,
  kMF = 16,
  kAC = 17,
  kXM = 19,
};

struct Frame {  // as interrupt_common leaves it
  uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
  uint64_t vector, error, rip, cs, rflags, rsp, ss;
};

struct Trap {
  bool taken = false;  // an exception (or, in user mode, INT 0x80) ended the call
  uint8_t vector = 0;
  uint64_t error = 0, rip = 0, cs = 0, rflags = 0, cr2 = 0, dr6 = 0;
  Frame frame{};
};

// Calls `body`; an exception in it ends it.
Trap TryCall(void (*function)(void*), void* argument);
template <class Body>
Trap Try(Body body) {
  return TryCall([](void* b) { (*static_cast<Body*>(b))(); }, &body);
}
// `code`, which stands in USER_CODE, at CPL 3 with RSP at the end of a page that it may use. It
// ends with an exception or INT 0x80. RDI and RSI are its arguments.
Trap RunUser(const void* code, uint64_t rdi = 0, uint64_t rsi = 0, uint64_t rflags = 2);
// Where an address of USER_CODE is mapped for CPL 3.
uint64_t UserAddress(const void* code);
// Puts the assembly text among the user-mode code.
#define USER_CODE(text) asm(".pushsection .user, \"ax\"\n" text "\n.popsection\n")

#define EXPECT_TRAP(trap, vector_, error_) \
  do {                                     \
    const ::guest::Trap& trap_ = (trap);   \
    EXPECT(trap_.taken);                   \
    EXPECT_EQ(trap_.vector, vector_);      \
    EXPECT_EQ(trap_.error, error_);        \
  } while (false)
#define EXPECT_NO_TRAP(trap)                              \
  do {                                                    \
    const ::guest::Trap& trap_ = (trap);                  \
    EXPECT_EQ(trap_.taken ? trap_.vector : 0x100, 0x100); \
  } while (false)

// --- Interrupts. ---
using Handler = void (*)(Frame&);
void SetHandler(uint8_t vector, Handler handler);  // nullptr: an exception again
void SetGateDpl(uint8_t vector, unsigned dpl);
void SetGateStack(uint8_t vector, unsigned ist);  // 1 to 7; only 1 has a stack; 0 = none
uint64_t GateStackTop();                          // of IST 1

// --- Descriptor tables. ---
enum Selector : uint16_t {
  kCode64 = 0x08,
  kData = 0x10,
  kCode32 = 0x18,
  kUserCode32 = 0x2b,
  kUserData = 0x33,
  kUserCode64 = 0x3b,
  kNotPresentData = 0x40,
  kTss = 0x50,
};
struct [[gnu::packed]] Tss {
  uint32_t reserved0;
  uint64_t rsp[3];
  uint64_t reserved1;
  uint64_t ist[7];
  uint64_t reserved2;
  uint16_t reserved3, io_map;
  uint8_t io_bitmap[8193];  // all ports, and the byte of ones behind them
};
extern Tss tss;

// --- Paging. A window of 512 pages of 4 KiB, unmapped at first, for tests to map. ---
inline constexpr uint64_t kWindow = 64ull << 30;
enum Pte : uint64_t {
  kPresent = 1,
  kWrite = 2,
  kUser = 4,
  kAccessed = 0x20,
  kDirty = 0x40,
  kLarge = 0x80,
  kGlobal = 0x100,
  kNoExecute = 1ull << 63,
};
constexpr uint64_t WindowPage(unsigned index) {
  return kWindow + uint64_t{index} * 4096;
}
volatile uint64_t& WindowPte(unsigned index);
volatile uint64_t& WindowPde();  // that points to the window's page table
void MapWindow(unsigned index, uint64_t physical_and_flags);  // and INVLPG
// A page of RAM of its own, identity-mapped.
uint64_t ScratchPage(unsigned index);  // 0 to 15

// --- Time: the ACPI PM timer, 3.579545 MHz. [ACPI] 4.8.3.3 ---
inline constexpr uint32_t kPmTimerHz = 3579545;
uint16_t PmTimerPort();  // 0: there is none
uint32_t PmTimer();      // 24 bits
// Waits until `done()` or about `milliseconds` are over; the last answer.
template <class Done>
bool WaitFor(Done done, uint32_t milliseconds = 1000) {
  uint32_t last = PmTimer();
  uint64_t ticks = uint64_t{milliseconds} * kPmTimerHz / 1000;
  while (!done()) {
    const uint32_t now = PmTimer();
    const uint64_t passed = (now - last) & 0xffffff;
    last = now;
    if (passed >= ticks) return done();
    ticks -= passed;
    Pause();
  }
  return true;
}
void Delay(uint32_t milliseconds);

// --- The second processor and its like. ---
// Starts CPU `id` by INIT and SIPI; it calls `function` with its id and halts. False: it never
// came.
bool StartCpu(unsigned id, void (*function)(unsigned id));

}  // namespace guest
