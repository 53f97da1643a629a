#include "kvm/vcpu_fd.h"

#include <cerrno>
#include <vector>

#include "kvm/flexible_list.h"
#include "vmm/core/state/cpuid_features.h"

namespace kvm {
namespace {

// [KVM API] 4.21 KVM_SET_CPUID2
int SetCpuid(const VcpuFd& vcpu, const vmm::CpuidPolicy& policy) {
  const std::vector<vmm::CpuidEntry> entries = policy.EntriesFor(vcpu.id());
  FlexibleList<kvm_cpuid2, kvm_cpuid_entry2> list(entries.size());
  list->nent = entries.size();
  for (size_t i = 0; i < entries.size(); ++i) {
    const vmm::CpuidEntry& from = entries[i];
    kvm_cpuid_entry2& to = list->entries[i];
    to.function = from.leaf;
    to.index = from.subleaf;
    to.flags = from.has_subleaf ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0;
    to.eax = from.regs.eax;
    to.ebx = from.regs.ebx;
    to.ecx = from.regs.ecx;
    to.edx = from.regs.edx;
  }
  return vcpu.Ioctl(KVM_SET_CPUID2, list.get());
}

// The guest sees the bits of its policy. A KVM that does not let them be set may show fewer, never
// more: a guest takes a defence that it could do without. [KVM API] 4.18, 4.19
bool SetArchCapabilities(const VcpuFd& vcpu, const vmm::CpuidPolicy& policy) {
  if (!policy.Has("arch_capabilities")) return true;
  FlexibleList<kvm_msrs, kvm_msr_entry> msrs(1);
  msrs->nmsrs = 1;
  msrs->entries[0].index = vmm::kIa32ArchCapabilities;
  msrs->entries[0].data = policy.arch_capabilities();
  if (vcpu.Ioctl(KVM_SET_MSRS, msrs.get()) == 1) return true;
  return vcpu.Ioctl(KVM_GET_MSRS, msrs.get()) == 1 &&
         !(msrs->entries[0].data & ~policy.arch_capabilities());
}

}  // namespace

KvmResult<std::unique_ptr<VcpuFd>> VcpuFd::Create(VmFd& vm, unsigned id,
                                                  const vmm::CpuidPolicy& cpuid) {
  KvmHost& host = vm.host();
  const int fd = vm.Ioctl(KVM_CREATE_VCPU, uintptr_t{id});
  if (fd < 0) return tl::unexpected(Refusal{"KVM_CREATE_VCPU", -fd});
  std::unique_ptr<VcpuFd> vcpu(new VcpuFd(host, id, fd));
  vcpu->run_ = static_cast<kvm_run*>(host.api().MapRun(fd, host.capabilities().run_size));
  if (vcpu->run_ == nullptr) return tl::unexpected(Refusal{"mmap of kvm_run", ENOMEM});
  if (const int r = SetCpuid(*vcpu, cpuid); r < 0)
    return tl::unexpected(Refusal{"KVM_SET_CPUID2", -r});
  if (!SetArchCapabilities(*vcpu, cpuid))
    return tl::unexpected(Refusal{"IA32_ARCH_CAPABILITIES", EINVAL});
  return vcpu;
}

VcpuFd::~VcpuFd() {
  if (run_ != nullptr) host_.api().UnmapRun(run_, host_.capabilities().run_size);
  host_.api().Close(fd_);
}

}  // namespace kvm
