#include "kvm/vcpu_fd.h"

#include <cerrno>
#include <vector>

#include "kvm/flexible_list.h"

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
  return vcpu;
}

VcpuFd::~VcpuFd() {
  if (run_ != nullptr) host_.api().UnmapRun(run_, host_.capabilities().run_size);
  host_.api().Close(fd_);
}

}  // namespace kvm
