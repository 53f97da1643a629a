// The host's own CPUID: the CpuidSource of a real machine. AVX that the host's kernel has not
// switched on (XCR0) is not there.
#pragma once

#include <cpuid.h>

#include <cstdint>

#include "vmm/core/state/cpuid_policy.h"

namespace vmm {

inline CpuidRegs HostCpuid(uint32_t leaf, uint32_t subleaf) {
  CpuidRegs regs;
  __cpuid_count(leaf, subleaf, regs.eax, regs.ebx, regs.ecx, regs.edx);
  constexpr uint32_t kOsxsave = 1u << 27, kAvx = 1u << 28;
  if (leaf == 1) {
    uint32_t xcr0 = 0, high;
    if (regs.ecx & kOsxsave) asm("xgetbv" : "=a"(xcr0), "=d"(high) : "c"(0));
    if ((xcr0 & 6) != 6) regs.ecx &= ~kAvx;
  }
  return regs;
}

}  // namespace vmm
