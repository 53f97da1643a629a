#include "kvm/prepared_vm.h"

namespace kvm {

KvmResult<std::unique_ptr<PreparedVm>> PreparedVm::Create(KvmHost& host,
                                                          const vmm::CpuidPolicy& cpuid) {
  std::unique_ptr<PreparedVm> prepared(new PreparedVm(host, cpuid));
  auto vm = VmFd::Create(host);
  if (!vm) return tl::unexpected(vm.error());
  prepared->vm_ = std::move(*vm);
  auto cpu0 = VcpuFd::Create(*prepared->vm_, 0, cpuid);
  if (!cpu0) return tl::unexpected(cpu0.error());
  prepared->cpu0_ = std::move(*cpu0);
  prepared->msrs_ = MsrSet::Probe(*prepared->cpu0_);
  return prepared;
}

}  // namespace kvm
