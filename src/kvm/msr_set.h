// The model-specific registers of CpuState, moved to and from a vCPU.
#pragma once

#include <cstdint>
#include <vector>

#include "kvm/vcpu_fd.h"
#include "vmm/core/base/result.h"
#include "vmm/core/state/cpu_state.h"

namespace kvm {

// [SDM 4] 2, [KVM API] x86/msr.rst; those in kvm_sregs (EFER, APIC_BASE) are not here.
class MsrSet {
 public:
  // Those that this host's KVM lets us read on `vcpu`; asked once a VM.
  static MsrSet Probe(const VcpuFd& vcpu);

  vmm::Result<void> Save(const VcpuFd& vcpu, vmm::CpuState& state) const;
  // Registers that KVM does not have are left out; kEngineFailed names one that it refuses.
  // IA32_TSC_DEADLINE comes last, separately: it needs the APIC's timer mode.
  vmm::Result<void> Load(const VcpuFd& vcpu, const vmm::CpuState& state) const;
  // Those that differ, but for the TSC, which runs.
  vmm::Result<void> LoadChanged(const VcpuFd& vcpu, const vmm::CpuState& before,
                                const vmm::CpuState& after) const;
  vmm::Result<void> LoadTscDeadline(const VcpuFd& vcpu, uint64_t value) const;

  bool Has(uint32_t index) const;

 private:
  std::vector<uint32_t> indices_;
};

}  // namespace kvm
