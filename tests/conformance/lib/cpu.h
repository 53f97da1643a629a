// The processor's own instructions, for conformance guests.
#pragma once

#include <cstdint>

namespace guest {

inline uint8_t In8(uint16_t port) {
  uint8_t value;
  asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}
inline uint16_t In16(uint16_t port) {
  uint16_t value;
  asm volatile("inw %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}
inline uint32_t In32(uint16_t port) {
  uint32_t value;
  asm volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}
inline void Out8(uint16_t port, uint8_t value) {
  asm volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}
inline void Out16(uint16_t port, uint16_t value) {
  asm volatile("outw %0, %1" : : "a"(value), "Nd"(port));
}
inline void Out32(uint16_t port, uint32_t value) {
  asm volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}

template <class T>
T ReadMemory(uint64_t address) {
  return *reinterpret_cast<volatile T*>(address);
}
template <class T>
void WriteMemory(uint64_t address, T value) {
  *reinterpret_cast<volatile T*>(address) = value;
}

inline uint64_t ReadMsr(uint32_t index) {
  uint32_t low, high;
  asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(index) : "memory");
  return low | uint64_t{high} << 32;
}
inline void WriteMsr(uint32_t index, uint64_t value) {
  asm volatile("wrmsr"
               :
               : "c"(index), "a"(static_cast<uint32_t>(value)),
                 "d"(static_cast<uint32_t>(value >> 32))
               : "memory");
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

inline uint64_t Tsc() {
  uint32_t low, high;
  asm volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
  return low | uint64_t{high} << 32;
}

#define GUEST_CONTROL_REGISTER(NAME, name)                          \
  inline uint64_t Read##NAME() {                                    \
    uint64_t value;                                                 \
    asm volatile("mov %%" #name ", %0" : "=r"(value) : : "memory"); \
    return value;                                                   \
  }                                                                 \
  inline void Write##NAME(uint64_t value) {                         \
    asm volatile("mov %0, %%" #name : : "r"(value) : "memory");     \
  }
GUEST_CONTROL_REGISTER(Cr0, cr0)
GUEST_CONTROL_REGISTER(Cr2, cr2)
GUEST_CONTROL_REGISTER(Cr3, cr3)
GUEST_CONTROL_REGISTER(Cr4, cr4)
GUEST_CONTROL_REGISTER(Cr8, cr8)
GUEST_CONTROL_REGISTER(Dr0, dr0)
GUEST_CONTROL_REGISTER(Dr6, dr6)
GUEST_CONTROL_REGISTER(Dr7, dr7)
#undef GUEST_CONTROL_REGISTER

inline void InvalidatePage(uint64_t address) {
  asm volatile("invlpg (%0)" : : "r"(address) : "memory");
}
// [SDM 2A] INVPCID
inline void Invpcid(uint64_t type, uint64_t pcid, uint64_t address) {
  const struct alignas(16) {
    uint64_t pcid, address;
  } descriptor = {pcid, address};
  asm volatile("invpcid %0, %1" : : "m"(descriptor), "r"(type) : "memory");
}
inline void EnableInterrupts() {
  asm volatile("sti" : : : "memory");
}
inline void DisableInterrupts() {
  asm volatile("cli" : : : "memory");
}
// Enables interrupts and waits for one, without a gap in between. [SDM 2B] STI
inline void WaitForInterrupt() {
  asm volatile("sti\n hlt\n cli" : : : "memory");
}
inline void Pause() {
  asm volatile("pause" : : : "memory");
}

inline uint64_t Flags() {
  uint64_t flags;
  asm volatile("pushf\n pop %0" : "=r"(flags) : : "memory");
  return flags;
}

}  // namespace guest
