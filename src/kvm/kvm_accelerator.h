// The KVM engine: hardware virtualization by the host's /dev/kvm.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "kvm/kvm_api.h"
#include "kvm/kvm_host.h"
#include "kvm/prepared_vm.h"
#include "vmm/core/accel/accelerator.h"

namespace kvm {

// Threads: Create, Prepare and CreateVm from one thread (machine assembly). Outlives its VMs.
class KvmAccelerator final : public vmm::Accelerator {
 public:
  // Opens /dev/kvm and reads what it can do. kEngineUnavailable with the reason when there is no
  // usable KVM.
  static vmm::Result<std::unique_ptr<KvmAccelerator>> Create(KvmApi& api);
  // On a host that was opened already.
  explicit KvmAccelerator(std::unique_ptr<KvmHost> host);
  ~KvmAccelerator() override;

  std::string_view name() const override { return "kvm"; }

  // What guests may be told by CPUID; a machine's policy is restricted to it before anything else.
  const std::vector<vmm::CpuidEntry>& supported_cpuid() const;

  // Makes the VM and its CPU 0 ahead of CreateVm, so that it can be measured first. The next
  // CreateVm with an equal policy takes it over.
  KvmResult<PreparedVm*> Prepare(const vmm::CpuidPolicy& cpuid);
  // Gives it up again; closing costs the host 10-30 ms, so this happens on a thread of its own.
  void DropPrepared();

  vmm::Result<std::unique_ptr<vmm::Vm>> CreateVm(const vmm::VmParts& parts) override;

 private:
  std::unique_ptr<KvmHost> host_;
  std::unique_ptr<PreparedVm> prepared_;
};

}  // namespace kvm
