// A machine run by KVM: memory slots, local APICs in the kernel, message routes.
#pragma once

#include <array>
#include <memory>
#include <mutex>
#include <optional>

#include "kvm/gsi_routes.h"
#include "kvm/guest_debug.h"
#include "kvm/kvm_vcpu.h"
#include "kvm/msr_set.h"
#include "kvm/prepared_vm.h"
#include "vmm/core/accel/accelerator.h"

namespace kvm {

// Threads: as vmm::Vm says. Outlives its vCPUs.
class KvmVm final : public vmm::Vm {
 public:
  // Takes the VM and its CPU 0 over. kEngineFailed when KVM refuses memory or state.
  static vmm::Result<std::unique_ptr<KvmVm>> Create(PreparedVm& prepared,
                                                    const vmm::VmParts& parts);

  vmm::Result<std::unique_ptr<vmm::Vcpu>> CreateVcpu(unsigned id) override;
  void SendMsi(vmm::MsiMessage message) override;
  void ExtIntChanged() override;
  void InjectNmi(unsigned cpu) override;
  void IoapicRouteChanged(unsigned pin, vmm::MsiMessage message, bool masked, bool level) override;
  vmm::Result<void> AddIoEventFd(bool port, uint64_t address, unsigned size, int fd) override;
  vmm::Result<void> RemoveIoEventFd(bool port, uint64_t address, unsigned size, int fd) override;
  vmm::Result<unsigned> AddIrqFd(int fd, vmm::MsiMessage message) override;
  vmm::Result<void> UpdateIrqFd(unsigned id, vmm::MsiMessage message) override;
  void RemoveIrqFd(unsigned id, int fd) override;
  std::optional<vmm::Nanoseconds> GuestTime() override;
  void SetGuestTime(vmm::Nanoseconds time) override;
  void OnHostWrite(vmm::GuestPhys, uint64_t) override {}  // the hardware sees to it
  vmm::Result<void> SetDebugPoints(std::span<const vmm::DebugPoint> points,
                                   const vmm::CpuState& context) override;

 private:
  KvmVm(std::unique_ptr<VmFd> vm, vmm::CpuidPolicy cpuid, const vmm::VmParts& parts)
      : vm_(std::move(vm)),
        cpuid_(std::move(cpuid)),
        parts_(parts),
        routes_(*vm_),
        debug_(parts.memory) {}
  vmm::Result<void> AddMemory();
  vmm::Result<void> SetTscFrequency(const VcpuFd& vcpu);
  vmm::Result<void> IoEventFd(bool port, uint64_t address, unsigned size, int fd, bool remove);

  std::unique_ptr<VmFd> vm_;
  vmm::CpuidPolicy cpuid_;
  vmm::VmParts parts_;
  GsiRoutes routes_;
  DebugSetup debug_;
  std::unique_ptr<VcpuFd> cpu0_;  // until CreateVcpu(0)
  MsrSet msrs_;

  std::mutex boot_cpu_mutex_;    // rank: just above vCPU kick
  KvmVcpu* boot_cpu_ = nullptr;  // guarded by boot_cpu_mutex_: where the 8259 is wired to
};

}  // namespace kvm
