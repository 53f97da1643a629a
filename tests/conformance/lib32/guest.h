// What a 32-bit conformance guest is written with: as lib/guest.h, for the modes that a 64-bit
// system leaves behind. It runs in flat 32-bit protected mode at CPL 0 without paging and with
// interrupts off; GuestMain() does the checks.
#pragma once

#include <stddef.h>
#include <stdint.h>

void GuestMain();

namespace guest {

// --- Words and verdicts. ---
void Print(const char* text);
void PrintHex(uint32_t value);
void Section(const char* name);
void Skip(const char* what);
[[noreturn]] void Finish();
bool UnderTcg();
void Expect(bool ok, const char* file, int line, const char* text);
void ExpectEqual(uint32_t got, uint32_t wanted, const char* file, int line, const char* text);
#define EXPECT(condition) ::guest::Expect((condition), __FILE__, __LINE__, #condition)
#define EXPECT_EQ(got, wanted)                                                              \
  ::guest::ExpectEqual(static_cast<uint32_t>(got), static_cast<uint32_t>(wanted), __FILE__, \
                       __LINE__, #got)

// --- Exceptions. ---
enum Vector : uint8_t {
  kDE = 0,
  kDB = 1,
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
};
enum Flag : uint32_t {
  kCF = 1,
  kTF = 1 << 8,
  kIF = 1 << 9,
  kIopl3 = 3 << 12,
  kNT = 1 << 14,
  kRF = 1 << 16,
  kVM = 1 << 17,
  kVIF = 1 << 19,
  kVIP = 1 << 20,
};

struct Frame {  // as interrupt_common leaves it
  uint32_t gs, fs, es, ds;
  uint32_t edi, esi, ebp, unused, ebx, edx, ecx, eax;
  uint32_t vector, error, eip, cs, eflags;
  uint32_t esp, ss;                         // only from outer levels
  uint32_t v86_es, v86_ds, v86_fs, v86_gs;  // only from V86 mode
};
struct Trap {
  bool taken = false;
  uint8_t vector = 0;
  uint32_t error = 0, eip = 0, cs = 0, eflags = 0, cr2 = 0;
  uint16_t tr = 0;
  Frame frame{};
};

// Calls `body`; an exception, or INT 0x80 from anywhere, ends it.
Trap TryCall(void (*function)(void*), void* argument);
template <class Body>
Trap Try(Body body) {
  return TryCall([](void* b) { (*static_cast<Body*>(b))(); }, &body);
}
// `code` at CPL 3 on a stack of its own; it can use all memory as far as paging lets it.
Trap RunUser(const void* code, uint32_t eflags = 2, uint32_t edi = 0);

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

using Handler = void (*)(Frame&);
void SetHandler(uint8_t vector, Handler handler);  // nullptr: an exception again

// --- Descriptors. ---
enum Selector : uint16_t {
  kCode = 0x08,
  kData = 0x10,
  kUserCode = 0x1b,
  kUserData = 0x23,
  kTss = 0x28,
  kCode16 = 0x30,
  kData16 = 0x38,
  kNotPresent = 0x40,
  kFree = 0x48,  // from here to 0x1f8: the guest's own
};
enum Access : uint8_t {  // with the present bit
  kTss16 = 0x81,
  kLdt = 0x82,
  kCallGate16 = 0x84,
  kTaskGate = 0x85,
  kInterruptGate16 = 0x86,
  kTrapGate16 = 0x87,
  kTss32 = 0x89,
  kCallGate32 = 0x8c,
  kInterruptGate32 = 0x8e,
  kTrapGate32 = 0x8f,
  kReadOnly = 0x91,
  kReadWrite = 0x93,
  kExpandDown = 0x97,
  kExecuteOnly = 0x99,
  kExecuteRead = 0x9b,
  kConforming = 0x9f,
  kDpl3 = 0x60,
};
enum Granularity : uint8_t { kByte16 = 0, kByte32 = 4, kPage16 = 8, kPage32 = 12 };
void SetSegment(uint16_t selector, uint32_t base, uint32_t limit, unsigned access,
                Granularity granularity);
void SetGate(uint16_t selector, uint16_t target, uint32_t offset, unsigned access,
             unsigned parameters = 0);
void SetIdtGate(uint8_t vector, uint16_t target, uint32_t offset, unsigned access);
void ResetIdtGate(uint8_t vector, unsigned access = kInterruptGate32);  // to the guest's own stub
uint8_t DescriptorType(uint16_t selector);                              // the access byte

struct [[gnu::packed]] Tss32 {
  uint16_t link, reserved0;
  uint32_t esp0;
  uint16_t ss0, reserved1;
  uint32_t esp1;
  uint16_t ss1, reserved2;
  uint32_t esp2;
  uint16_t ss2, reserved3;
  uint32_t cr3, eip, eflags, eax, ecx, edx, ebx, esp, ebp, esi, edi;
  uint32_t es, cs, ss, ds, fs, gs, ldt;
  uint16_t trap, io_map;
  uint8_t redirection[32];
  uint8_t io_bitmap[129];  // ports below 1024, and the byte of ones behind them
};
struct [[gnu::packed]] Tss16 {
  uint16_t link, sp0, ss0, sp1, ss1, sp2, ss2;
  uint16_t ip, flags, ax, cx, dx, bx, sp, bp, si, di, es, cs, ss, ds, ldt;
};
extern Tss32 tss;  // of the guest's first task
uint16_t TaskRegister();

// --- 8086 code: what stands between REAL_CODE is copied to 0x10000. ---
#define REAL_CODE(text) \
  asm(".pushsection .real, \"awx\"\n .code16\n" text "\n .code32\n .popsection\n")
inline constexpr uint16_t kRealSegment = 0x1000;
uint16_t RealOffset(const void* code);
struct V86Registers {
  uint32_t eip = 0, cs = kRealSegment, eflags = kVM | 2, esp = 0xfff0, ss = 0x2000, es = 0, ds = 0,
           fs = 0, gs = 0, ebx = 0, ecx = 0, edx = 0, esi = 0, edi = 0, eax = 0;
};
Trap RunV86(const void* code, uint32_t eflags = 2, V86Registers registers = {});

// --- The processor's own instructions. ---
inline void Out8(uint16_t port, uint8_t value) {
  asm volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}
inline uint8_t In8(uint16_t port) {
  uint8_t value;
  asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}
template <class T>
T ReadMemory(uint32_t address) {
  return *reinterpret_cast<volatile T*>(address);
}
template <class T>
void WriteMemory(uint32_t address, T value) {
  *reinterpret_cast<volatile T*>(address) = value;
}
struct CpuidResult {
  uint32_t eax, ebx, ecx, edx;
};
inline CpuidResult Cpuid(uint32_t leaf, uint32_t subleaf = 0) {
  CpuidResult r;
  asm volatile("cpuid"
               : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx)
               : "a"(leaf), "c"(subleaf));
  return r;
}
#define GUEST_CONTROL_REGISTER(NAME, name)                          \
  inline uint32_t Read##NAME() {                                    \
    uint32_t value;                                                 \
    asm volatile("mov %%" #name ", %0" : "=r"(value) : : "memory"); \
    return value;                                                   \
  }                                                                 \
  inline void Write##NAME(uint32_t value) {                         \
    asm volatile("mov %0, %%" #name : : "r"(value) : "memory");     \
  }
GUEST_CONTROL_REGISTER(Cr0, cr0)
GUEST_CONTROL_REGISTER(Cr2, cr2)
GUEST_CONTROL_REGISTER(Cr3, cr3)
GUEST_CONTROL_REGISTER(Cr4, cr4)
GUEST_CONTROL_REGISTER(Dr6, dr6)
GUEST_CONTROL_REGISTER(Dr7, dr7)
#undef GUEST_CONTROL_REGISTER
inline uint64_t ReadMsr(uint32_t index) {
  uint64_t value;
  asm volatile("rdmsr" : "=A"(value) : "c"(index) : "memory");
  return value;
}
inline void WriteMsr(uint32_t index, uint64_t value) {
  asm volatile("wrmsr" : : "c"(index), "A"(value) : "memory");
}
inline void InvalidatePage(uint32_t address) {
  asm volatile("invlpg (%0)" : : "r"(address) : "memory");
}
inline uint32_t Flags() {
  uint32_t flags;
  asm volatile("pushf\n pop %0" : "=r"(flags) : : "memory");
  return flags;
}

}  // namespace guest
