#include "guest.h"

extern "C" {
extern char interrupt_stubs[], gdt[], real_begin[], real_end[];
void CallTrapped(void (*function)(void*), void* argument);
void EnterUser(uint32_t eip, uint32_t esp, uint32_t eflags, uint32_t edi);
void EnterV86(const guest::V86Registers& registers);
bool OnInterrupt(guest::Frame& frame);
void GuestStart();

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

Tss32 tss;

namespace {

constexpr uint16_t kCom1 = 0x3f8, kDebugExit = 0xf4;

alignas(16) uint64_t idt[256];
Handler handlers[256];
alignas(16) uint8_t exception_stack[8192], user_stack[4096];

const char* section = "start";
unsigned failures = 0;
bool armed = false;
Trap caught;

// [SDM 3A] figure 6-2
uint64_t MakeGate(uint16_t target, uint32_t offset, unsigned access, unsigned parameters) {
  return (offset & 0xffff) | static_cast<uint32_t>(target) << 16 |
         static_cast<uint64_t>((offset & 0xffff0000) | access << 8 | parameters) << 32;
}

void LoadTables() {
  for (unsigned vector = 0; vector < 256; ++vector) ResetIdtGate(static_cast<uint8_t>(vector));
  ResetIdtGate(0x80, kInterruptGate32 | kDpl3);
  const struct [[gnu::packed]] {
    uint16_t limit;
    uint32_t base;
  } idtr = {sizeof idt - 1, reinterpret_cast<uint32_t>(idt)};
  asm volatile("lidt %0" : : "m"(idtr));
  tss.esp0 = reinterpret_cast<uint32_t>(exception_stack + sizeof exception_stack);
  tss.ss0 = kData;
  tss.io_map = sizeof tss;  // beyond the limit: no port is allowed
  SetSegment(kTss, reinterpret_cast<uint32_t>(&tss), sizeof tss - 1, kTss32, kByte16);
  asm volatile("ltr %w0" : : "r"(uint32_t{kTss}));
  asm volatile("lldt %w0" : : "r"(0));
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
    while ((In8(kCom1 + 5) & 0x20) == 0) asm volatile("pause");  // [16550] LSR: THRE
    Out8(kCom1, static_cast<uint8_t>(*text));
  }
}

void PrintHex(uint32_t value) {
  char text[11] = "0x";
  int length = 2;
  for (int shift = 28; shift >= 0; shift -= 4)
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
  asm volatile("cli");
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

void ExpectEqual(uint32_t got, uint32_t wanted, const char* file, int line, const char* text) {
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
  armed = true;
  caught = {};
  CallTrapped(function, argument);
  armed = false;
  return caught;
}

Trap RunUser(const void* code, uint32_t eflags, uint32_t edi) {
  return Try([=] {
    EnterUser(reinterpret_cast<uint32_t>(code),
              reinterpret_cast<uint32_t>(user_stack + sizeof user_stack), eflags, edi);
  });
}

uint16_t RealOffset(const void* code) {
  return static_cast<uint16_t>(static_cast<const char*>(code) - real_begin);
}

Trap RunV86(const void* code, uint32_t eflags, V86Registers registers) {
  registers.eip = RealOffset(code);
  registers.eflags = eflags | kVM;
  return Try([&registers] { EnterV86(registers); });
}

void SetHandler(uint8_t vector, Handler handler) {
  handlers[vector] = handler;
}

void SetSegment(uint16_t selector, uint32_t base, uint32_t limit, unsigned access,
                Granularity granularity) {
  const uint64_t low = (limit & 0xffff) | static_cast<uint64_t>(base & 0xffffff) << 16;
  const uint32_t high = (limit >> 16 & 15) | static_cast<uint32_t>(granularity) << 4;
  reinterpret_cast<uint64_t*>(gdt)[selector / 8] = low | static_cast<uint64_t>(access) << 40 |
                                                   static_cast<uint64_t>(high) << 48 |
                                                   static_cast<uint64_t>(base >> 24) << 56;
}
void SetGate(uint16_t selector, uint16_t target, uint32_t offset, unsigned access,
             unsigned parameters) {
  reinterpret_cast<uint64_t*>(gdt)[selector / 8] = MakeGate(target, offset, access, parameters);
}
void SetIdtGate(uint8_t vector, uint16_t target, uint32_t offset, unsigned access) {
  idt[vector] = MakeGate(target, offset, access, 0);
}
void ResetIdtGate(uint8_t vector, unsigned access) {
  SetIdtGate(vector, kCode, reinterpret_cast<uint32_t>(interrupt_stubs) + 16 * vector, access);
}
uint8_t DescriptorType(uint16_t selector) {
  return reinterpret_cast<uint8_t*>(gdt)[(selector & ~7) + 5];
}
uint16_t TaskRegister() {
  uint16_t selector;
  asm volatile("str %0" : "=r"(selector));
  return selector;
}

}  // namespace guest

bool OnInterrupt(guest::Frame& frame) {
  using namespace guest;
  const auto vector = static_cast<uint8_t>(frame.vector);
  if (handlers[vector] != nullptr) {
    handlers[vector](frame);
    return false;
  }
  if (armed && (vector < 32 || vector == 0x80)) {
    armed = false;
    caught = {true,         vector,    frame.error,    frame.eip, frame.cs,
              frame.eflags, ReadCr2(), TaskRegister(), frame};
    return true;
  }
  BeginFailure("interrupt", 0);
  Print("unexpected vector ");
  PrintHex(vector);
  Print(" error ");
  PrintHex(frame.error);
  Print(" at ");
  PrintHex(frame.cs);
  Print(":");
  PrintHex(frame.eip);
  Print("\n");
  Finish();
}

void GuestStart() {
  using namespace guest;
  Out8(0x21, 0xff);  // firmware may have left the 8259s open
  Out8(0xa1, 0xff);
  memcpy(reinterpret_cast<void*>(kRealSegment * 16), real_begin,
         static_cast<size_t>(real_end - real_begin));
  LoadTables();
  GuestMain();
  Finish();
}
