// CpuState to and from the structures of the KVM API. The conversions are pure; the two functions
// at the end move a whole state in the order that KVM needs.
#pragma once

#include "kvm/msr_set.h"
#include "kvm/vcpu_fd.h"
#include "vmm/core/base/result.h"
#include "vmm/core/state/cpu_state.h"

namespace kvm {

kvm_segment ToKvm(const vmm::SegmentState& segment);
vmm::SegmentState FromKvm(const kvm_segment& segment);

kvm_regs ToKvmRegs(const vmm::CpuState& state);
void FromKvm(const kvm_regs& regs, vmm::CpuState& state);

kvm_sregs ToKvmSregs(const vmm::CpuState& state);
void FromKvm(const kvm_sregs& sregs, vmm::CpuState& state);

kvm_debugregs ToKvmDebugregs(const vmm::CpuState& state);
void FromKvm(const kvm_debugregs& regs, vmm::CpuState& state);

kvm_lapic_state ToKvmLapic(const vmm::LocalApicState& apic);
void FromKvm(const kvm_lapic_state& lapic, vmm::LocalApicState& apic);

kvm_vcpu_events ToKvmEvents(const vmm::CpuState::Events& events);
vmm::CpuState::Events FromKvm(const kvm_vcpu_events& events);

uint32_t ToKvm(vmm::Activity activity);
vmm::Activity ActivityFromKvm(uint32_t mp_state);

// On the vCPU's thread, with nothing half done in it. kEngineFailed names what KVM refused.
// `events`, if given, gets them as KVM has them.
vmm::Result<void> SaveState(const VcpuFd& vcpu, const MsrSet& msrs, vmm::CpuState& state,
                            kvm_vcpu_events* events = nullptr);
vmm::Result<void> LoadState(const VcpuFd& vcpu, const MsrSet& msrs, const vmm::CpuState& state);
// What one instruction has changed, `before` to `after`. The local APIC, pending NMIs, the TSC and
// the clocks have gone on meanwhile and are left alone; `events` are those from before.
vmm::Result<void> LoadRescued(const VcpuFd& vcpu, const MsrSet& msrs, const vmm::CpuState& before,
                              const vmm::CpuState& after, const kvm_vcpu_events& events);

}  // namespace kvm
