#include "guest.h"

#include <cstddef>

#include "apic.h"

extern "C" {
extern char user_begin[], user_end[], interrupt_stubs[], trap_resume[], gdt[];
extern char ap_code[], ap_code_end[];
extern uint64_t boot_pml4[], boot_pdpt[], ap_stack;
void CallTrapped(void (*function)(void*), void* argument, uint64_t* rsp);
void OnInterrupt(guest::Frame& frame);
void GuestStart();
void ApStart();

// The compiler may ask for these.
void* memset(void* to, int value, size_t count) {
  auto* bytes = static_cast<volatile uint8_t*>(to);
  for (size_t i = 0; i < count; ++i) bytes[i] = static_cast<uint8_t>(value);
  return to;
}
void* memcpy(void* to, const void* from, size_t count) {
  auto* target = static_cast<volatile uint8_t*>(to);
  const auto* source = static_cast<const uint8_t*>(from);
  for (size_t i = 0; i < count; ++i) target[i] = source[i];
  return to;
}
}

namespace guest {

Tss tss;

namespace {

constexpr uint16_t kCom1 = 0x3f8, kDebugExit = 0xf4;

struct [[gnu::packed]] Gate {
  uint16_t low;
  uint16_t selector;
  uint8_t ist, attributes;
  uint16_t middle;
  uint32_t high;
  uint32_t reserved;
};
alignas(16) Gate idt[256];
Handler handlers[256];

alignas(4096) uint64_t window_pd[512], window_pt[512];
alignas(4096) uint8_t scratch[16][4096];
alignas(16) uint8_t gate_stack[8192], exception_stack[8192], ap_stacks[7][8192];

const char* section = "start";
unsigned failures = 0;

struct Armed {
  bool on = false;
  uint64_t rsp = 0;
  Trap trap;
} armed;

void (*ap_function)(unsigned) = nullptr;
volatile unsigned ap_id = 0, ap_arrived = 0;

constexpr unsigned kUserPages = 256;  // the window's pages from here on: user code, then its stack

void LoadIdt() {
  const struct [[gnu::packed]] {
    uint16_t limit;
    uint64_t base;
  } idtr = {sizeof idt - 1, reinterpret_cast<uint64_t>(idt)};
  asm volatile("lidt %0" : : "m"(idtr));
}

void FillIdt() {
  for (unsigned vector = 0; vector < 256; ++vector) {
    const auto target = reinterpret_cast<uint64_t>(interrupt_stubs) + 16 * vector;
    idt[vector] = {
        static_cast<uint16_t>(target),       kCode64, 0, 0x8e, static_cast<uint16_t>(target >> 16),
        static_cast<uint32_t>(target >> 32), 0};
  }
  SetGateDpl(0x80, 3);
}

// 64-bit TSS descriptor. [SDM 3A] 7.2.3
void FillTss() {
  tss.rsp[0] = reinterpret_cast<uint64_t>(exception_stack + sizeof exception_stack);
  tss.ist[0] = GateStackTop();
  tss.io_map = sizeof tss;  // beyond the limit: no port is allowed
  const auto base = reinterpret_cast<uint64_t>(&tss);
  auto* descriptor = reinterpret_cast<uint64_t*>(gdt + kTss);
  descriptor[0] =
      (sizeof tss - 1) | (base & 0xffffff) << 16 | uint64_t{0x89} << 40 | (base >> 24 & 0xff) << 56;
  descriptor[1] = base >> 32;
  asm volatile("ltr %w0" : : "r"(kTss));
}

void MapWindows() {
  const auto pd = reinterpret_cast<uint64_t>(window_pd), pt = reinterpret_cast<uint64_t>(window_pt);
  // PML4 entry 0 serves both: user pages need the bit on every level.
  boot_pml4[0] |= kUser;
  boot_pdpt[kWindow >> 30] = pd | kPresent | kWrite | kUser;
  window_pd[0] = pt | kPresent | kWrite | kUser;
  unsigned page = kUserPages;
  for (char* at = user_begin; at < user_end; at += 4096)
    MapWindow(page++, reinterpret_cast<uint64_t>(at) | kPresent | kUser);
  MapWindow(511, ScratchPage(15) | kPresent | kWrite | kUser);  // user stack
}

const char* FileName(const char* path) {
  const char* name = path;
  for (; *path != 0; ++path)
    if (*path == '/') name = path + 1;
  return name;
}

void PrintDecimal(unsigned value) {
  if (value >= 10) PrintDecimal(value / 10);
  const char digit[2] = {static_cast<char>('0' + value % 10), 0};
  Print(digit);
}

void BeginFailure(const char* file, int line) {
  ++failures;
  Print("FAIL ");
  Print(FileName(file));
  Print(":");
  PrintDecimal(static_cast<unsigned>(line));
  Print(" (");
  Print(section);
  Print("): ");
}

}  // namespace

void Print(const char* text) {
  for (; *text != 0; ++text) {
    while ((In8(kCom1 + 5) & 0x20) == 0) Pause();  // [16550] LSR: THRE
    Out8(kCom1, static_cast<uint8_t>(*text));
  }
}

void PrintHex(uint64_t value) {
  char text[19] = "0x";
  int length = 2;
  for (int shift = 60; shift >= 0; shift -= 4)
    if (value >> shift != 0 || shift == 0) text[length++] = "0123456789abcdef"[value >> shift & 15];
  text[length] = 0;
  Print(text);
}

void Section(const char* name) {
  section = name;
}

void Skip(const char* what) {
  Print("SKIP ");
  Print(what);
  Print("\n");
}

bool UnderTcg() {
  const CpuidResult leaf = Cpuid(0x40000000);  // "TCGTCGTCGTCG"
  return (Cpuid(1).ecx >> 31 & 1) && leaf.ebx == 0x54474354 && leaf.ecx == 0x43544743;
}

void Finish() {
  DisableInterrupts();
  if (failures == 0) Print("PASS\n");
  Out8(kDebugExit, failures == 0 ? 0 : 1);
  for (;;) asm volatile("hlt");
}

void Expect(bool ok, const char* file, int line, const char* text) {
  if (ok) return;
  BeginFailure(file, line);
  Print(text);
  Print("\n");
}

void ExpectEqual(uint64_t got, uint64_t wanted, const char* file, int line, const char* text) {
  if (got == wanted) return;
  BeginFailure(file, line);
  Print(text);
  Print(" is ");
  PrintHex(got);
  Print(", not ");
  PrintHex(wanted);
  Print("\n");
}

Trap TryCall(void (*function)(void*), void* argument) {
  armed.on = true;
  armed.trap = {};
  CallTrapped(function, argument, &armed.rsp);
  armed.on = false;
  return armed.trap;
}

uint64_t UserAddress(const void* code) {
  return WindowPage(kUserPages) +
         static_cast<uint64_t>(static_cast<const char*>(code) - user_begin);
}

Trap RunUser(const void* code, uint64_t rdi, uint64_t rsi, uint64_t rflags) {
  const uint64_t rip = UserAddress(code), rsp = WindowPage(511) + 4096;
  return Try([=] {
    asm volatile(
        "push %[ss]\n push %[rsp]\n push %[rflags]\n push %[cs]\n push %[rip]\n"
        "iretq"
        :
        : [ss] "i"(kUserData), [rsp] "r"(rsp), [rflags] "r"(rflags), [cs] "i"(kUserCode64),
          [rip] "r"(rip), "D"(rdi), "S"(rsi)
        : "memory");
  });
}

void SetHandler(uint8_t vector, Handler handler) {
  handlers[vector] = handler;
}
void SetGateDpl(uint8_t vector, unsigned dpl) {
  idt[vector].attributes = static_cast<uint8_t>(0x8e | dpl << 5);
}
void SetGateStack(uint8_t vector, unsigned ist) {
  idt[vector].ist = static_cast<uint8_t>(ist);
}
uint64_t GateStackTop() {
  return reinterpret_cast<uint64_t>(gate_stack + sizeof gate_stack);
}

volatile uint64_t& WindowPte(unsigned index) {
  return window_pt[index];
}
volatile uint64_t& WindowPde() {
  return window_pd[0];
}
void MapWindow(unsigned index, uint64_t physical_and_flags) {
  WindowPte(index) = physical_and_flags;
  InvalidatePage(WindowPage(index));
}
uint64_t ScratchPage(unsigned index) {
  return reinterpret_cast<uint64_t>(scratch[index]);
}

// The PIIX4's power management function says where its registers are. [PIIX4] PMBA
uint16_t PmTimerPort() {
  static int port = -1;
  if (port >= 0) return static_cast<uint16_t>(port);
  port = 0;
  for (uint32_t slot = 0; slot < 32 && port == 0; ++slot) {
    for (uint32_t function = 0; function < 8; ++function) {
      const uint32_t address = 0x80000000 | slot << 11 | function << 8;
      Out32(0xcf8, address);
      if (In32(0xcfc) != 0x71138086) continue;
      Out32(0xcf8, address | 0x40);
      port = static_cast<int>((In32(0xcfc) & 0xffc0) + 8);
    }
  }
  return static_cast<uint16_t>(port);
}

uint32_t PmTimer() {
  return In32(PmTimerPort()) & 0xffffff;
}

void Delay(uint32_t milliseconds) {
  WaitFor([] { return false; }, milliseconds);
}

// [SDM 3A] 8.4.4.1
bool StartCpu(unsigned id, void (*function)(unsigned id)) {
  memcpy(reinterpret_cast<void*>(0x8000), ap_code, static_cast<size_t>(ap_code_end - ap_code));
  ap_function = function;
  ap_id = id;
  ap_arrived = 0;
  ap_stack = reinterpret_cast<uint64_t>(ap_stacks[id - 1] + sizeof ap_stacks[0]);
  SendIpi(kInit | kAssert, static_cast<uint8_t>(id));
  Delay(10);
  for (int tries = 0; tries < 2 && ap_arrived == 0; ++tries) {
    SendIpi(kStartup | kAssert | 8, static_cast<uint8_t>(id));
    WaitFor([] { return ap_arrived != 0; }, tries == 0 ? 20 : 2000);
  }
  return ap_arrived != 0;
}

}  // namespace guest

void OnInterrupt(guest::Frame& frame) {
  using namespace guest;
  const auto vector = static_cast<uint8_t>(frame.vector);
  if (handlers[vector] != nullptr) {
    handlers[vector](frame);
    return;
  }
  if (armed.on && (vector < 32 || vector == 0x80)) {
    armed.on = false;
    armed.trap = {true,         vector,    frame.error, frame.rip, frame.cs,
                  frame.rflags, ReadCr2(), ReadDr6(),   frame};
    frame.rip = reinterpret_cast<uint64_t>(trap_resume);
    frame.cs = kCode64;
    frame.ss = kData;
    frame.rsp = armed.rsp;
    frame.rflags = 2;
    return;
  }
  BeginFailure("interrupt", 0);
  Print("unexpected vector ");
  PrintHex(vector);
  Print(" error ");
  PrintHex(frame.error);
  Print(" at ");
  PrintHex(frame.rip);
  Print(" CR2 ");
  PrintHex(ReadCr2());
  Print("\n");
  Finish();
}

void GuestStart() {
  using namespace guest;
  MaskPics();  // firmware may have left them open
  FillIdt();
  LoadIdt();
  FillTss();
  asm volatile("lldt %w0" : : "r"(0));  // after reset it covers the first 64 KiB
  MapWindows();
  GuestMain();
  Finish();
}

void ApStart() {
  using namespace guest;
  LoadIdt();
  const unsigned id = ap_id;
  void (*const function)(unsigned) = ap_function;
  ap_arrived = 1;
  function(id);
}
