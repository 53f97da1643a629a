// Is a CpuState from a file one that a processor can be in?
#pragma once

#include "vmm/core/base/result.h"
#include "vmm/core/state/cpu_state.h"
#include "vmm/core/state/cpuid_policy.h"

namespace vmm {

// What an engine would have to trust: reserved bits, and combinations that no processor enters.
// kConfigInvalid names the register. The local APIC's page is judged by whoever loads it.
// [SDM 3C] 26.3.1
Result<void> CheckCpuState(const CpuState& state, const CpuidPolicy& cpuid);

// Takes from the XSAVE area the components that `cpuid` does not offer: an engine may save what the
// host has beside. [SDM 1] 13.4.2
void MaskXstate(CpuState& state, const CpuidPolicy& cpuid);

}  // namespace vmm
