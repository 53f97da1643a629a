// The host's own CPUID: the CpuidSource of a real machine.
#pragma once

#include <cpuid.h>

#include <cstdint>

#include "vmm/core/state/cpuid_policy.h"

namespace vmm {

inline CpuidRegs HostCpuid(uint32_t leaf, uint32_t subleaf) {
  CpuidRegs regs;
  __cpuid_count(leaf, subleaf, regs.eax, regs.ebx, regs.ecx, regs.edx);
  return regs;
}

}  // namespace vmm
