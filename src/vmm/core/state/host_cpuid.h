// The host's own CPUID, replaceable, so that a test can be any host.
#pragma once

#include <cpuid.h>

#include <cstdint>
#include <functional>

#include "vmm/core/state/cpuid_policy.h"

namespace vmm {

// Answers CPUID with EAX = leaf, ECX = subleaf.
using CpuidSource = std::function<CpuidRegs(uint32_t leaf, uint32_t subleaf)>;

inline CpuidRegs HostCpuid(uint32_t leaf, uint32_t subleaf) {
  CpuidRegs regs;
  __cpuid_count(leaf, subleaf, regs.eax, regs.ebx, regs.ecx, regs.edx);
  return regs;
}

}  // namespace vmm
