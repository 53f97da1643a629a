// Small pieces of code for a guest to write, run and change.
#pragma once

#include "guest.h"

namespace guest {

// `mov $value, %eax; ret; nop; nop`: eight bytes.
constexpr uint64_t Returning(uint32_t value) {
  return 0x9090c30000000000 + 0xb8 + (uint64_t{value} << 8);
}
inline void Put(uint64_t address, uint64_t code) {
  asm volatile("mov %1, (%0)" : : "r"(address), "r"(code) : "memory");
}
inline void PutBytes(uint64_t address, std::initializer_list<uint8_t> bytes) {
  for (const uint8_t byte : bytes) WriteMemory<uint8_t>(address++, byte);
}
inline uint32_t Call(uint64_t address, uint64_t rdi = 0, uint64_t rsi = 0, uint64_t rdx = 0) {
  uint64_t result = 0;
  asm volatile("call *%4"
               : "+a"(result), "+D"(rdi), "+S"(rsi), "+d"(rdx)
               : "r"(address)
               : "rcx", "r8", "r9", "r10", "r11", "memory", "cc");
  return static_cast<uint32_t>(result);
}
// What a program must do before it runs code that was written at another linear address.
inline void Serialize() {
  Cpuid(0);
}

}  // namespace guest
