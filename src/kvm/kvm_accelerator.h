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
  // Opens /dev/kvm and reads what it can do. ToError() makes a message of a refusal.
  static KvmResult<std::unique_ptr<KvmAccelerator>> Create(KvmApi& api);

  std::string_view name() const override { return "kvm"; }

  // Takes from `cpuid` what this KVM can't give: done to a machine's policy before anything else.
  void Restrict(vmm::CpuidPolicy& cpuid) const;

  // Makes the VM and its CPU 0 ahead of CreateVm, so that it can be measured first. `cpuid` is
  // restricted. The next CreateVm with an equal policy takes it over.
  KvmResult<PreparedVm*> Prepare(const vmm::CpuidPolicy& cpuid);

  // Or nobody takes it: its state can't be trusted any more.
  void DropPrepared() { prepared_.reset(); }

  // kEngineUnavailable when the host refuses a VM; kEngineFailed when it refuses a part of it.
  vmm::Result<std::unique_ptr<vmm::Vm>> CreateVm(const vmm::VmParts& parts) override;

 private:
  explicit KvmAccelerator(std::unique_ptr<KvmHost> host) : host_(std::move(host)) {}

  std::unique_ptr<KvmHost> host_;
  std::unique_ptr<PreparedVm> prepared_;
};

}  // namespace kvm
