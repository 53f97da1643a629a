// A VM with its CPU 0 and nothing else: no memory, no devices. It can be measured, then becomes the
// machine's VM, so that none is created or destroyed only to be probed.
#pragma once

#include <memory>

#include "kvm/kvm_host.h"
#include "kvm/msr_set.h"
#include "kvm/vcpu_fd.h"
#include "kvm/vm_fd.h"
#include "vmm/core/state/cpuid_policy.h"

namespace kvm {

class PreparedVm {
 public:
  static KvmResult<std::unique_ptr<PreparedVm>> Create(KvmHost& host,
                                                       const vmm::CpuidPolicy& cpuid);

  KvmHost& host() { return host_; }
  VmFd& vm() { return *vm_; }
  VcpuFd& cpu0() { return *cpu0_; }
  const MsrSet& msrs() const { return msrs_; }
  const vmm::CpuidPolicy& cpuid() const { return cpuid_; }

  // Hands the parts to a machine; this object is empty afterwards.
  std::unique_ptr<VmFd> TakeVm() { return std::move(vm_); }
  std::unique_ptr<VcpuFd> TakeCpu0() { return std::move(cpu0_); }

 private:
  PreparedVm(KvmHost& host, vmm::CpuidPolicy cpuid) : host_(host), cpuid_(std::move(cpuid)) {}

  KvmHost& host_;
  vmm::CpuidPolicy cpuid_;
  std::unique_ptr<VmFd> vm_;
  std::unique_ptr<VcpuFd> cpu0_;
  MsrSet msrs_;
};

}  // namespace kvm
