#include "kvm/kvm_accelerator.h"

#include <algorithm>

#include "kvm/kvm_vm.h"

namespace kvm {
namespace {

bool Equal(const vmm::CpuidPolicy& a, const vmm::CpuidPolicy& b) {
  return std::ranges::equal(a.entries(), b.entries(),
                            [](const vmm::CpuidEntry& x, const vmm::CpuidEntry& y) {
                              return x.leaf == y.leaf && x.subleaf == y.subleaf &&
                                     x.has_subleaf == y.has_subleaf && x.regs == y.regs;
                            });
}

}  // namespace

KvmResult<std::unique_ptr<KvmAccelerator>> KvmAccelerator::Create(KvmApi& api) {
  auto host = KvmHost::Open(api);
  if (!host) return tl::unexpected(host.error());
  return std::unique_ptr<KvmAccelerator>(new KvmAccelerator(std::move(*host)));
}

void KvmAccelerator::Restrict(vmm::CpuidPolicy& cpuid) const {
  cpuid.Restrict(host_->supported_cpuid());
}

KvmResult<PreparedVm*> KvmAccelerator::Prepare(const vmm::CpuidPolicy& cpuid) {
  auto prepared = PreparedVm::Create(*host_, cpuid);
  if (!prepared) return tl::unexpected(prepared.error());
  prepared_ = std::move(*prepared);
  return prepared_.get();
}

vmm::Result<std::unique_ptr<vmm::Vm>> KvmAccelerator::CreateVm(const vmm::VmParts& parts) {
  if (parts.schedule != nullptr)
    return vmm::Fail(vmm::ExitCode::kEngineUnavailable, "KVM can't count instructions");
  vmm::CpuidPolicy cpuid = parts.cpuid;
  Restrict(cpuid);
  if (prepared_ == nullptr || !Equal(prepared_->cpuid(), cpuid)) {
    if (auto made = Prepare(cpuid); !made)
      return tl::unexpected(ToError(made.error(), host_->api().Facts()));
  }
  const std::unique_ptr<PreparedVm> prepared = std::move(prepared_);
  auto vm = KvmVm::Create(*prepared, parts);
  if (!vm) return tl::unexpected(vm.error());
  return std::unique_ptr<vmm::Vm>(std::move(*vm));
}

}  // namespace kvm
