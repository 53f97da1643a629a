#include "kvm/kvm_host.h"

#include <cerrno>

#include "kvm/flexible_list.h"
#include "kvm/kvm_uapi.h"
#include "vmm/core/state/cpuid_features.h"

namespace kvm {
namespace {

struct Required {
  int capability;
  const char* name;
};

// All of these are in Linux 5.10. [KVM API] 4.4
constexpr Required kRequired[] = {
    {KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY"},
    {KVM_CAP_SET_TSS_ADDR, "KVM_CAP_SET_TSS_ADDR"},
    {KVM_CAP_SET_IDENTITY_MAP_ADDR, "KVM_CAP_SET_IDENTITY_MAP_ADDR"},
    {KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID"},
    {KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP"},
    {KVM_CAP_SPLIT_IRQCHIP, "KVM_CAP_SPLIT_IRQCHIP"},
    {KVM_CAP_IRQ_ROUTING, "KVM_CAP_IRQ_ROUTING"},
    {KVM_CAP_SIGNAL_MSI, "KVM_CAP_SIGNAL_MSI"},
    {KVM_CAP_IRQFD, "KVM_CAP_IRQFD"},
    {KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD"},
    {KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE"},
    {KVM_CAP_VCPU_EVENTS, "KVM_CAP_VCPU_EVENTS"},
    {KVM_CAP_XSAVE, "KVM_CAP_XSAVE"},
    {KVM_CAP_XCRS, "KVM_CAP_XCRS"},
    {KVM_CAP_DEBUGREGS, "KVM_CAP_DEBUGREGS"},
    {KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT"},
};

constexpr unsigned kMaxCpuidEntries = 256;  // KVM_MAX_CPUID_ENTRIES of the kernel

}  // namespace

KvmResult<std::unique_ptr<KvmHost>> KvmHost::Open(KvmApi& api) {
  const int fd = api.Open();
  if (fd < 0) return tl::unexpected(Refusal{"open /dev/kvm", -fd});
  std::unique_ptr<KvmHost> host(new KvmHost(api, fd));
  // Anything but 12 is a KVM of before 2007. [KVM API] 4.1
  const int version = api.Ioctl(fd, KVM_GET_API_VERSION, uintptr_t{0});
  if (version < 0) return tl::unexpected(Refusal{"KVM_GET_API_VERSION", -version});
  if (version != KVM_API_VERSION) return tl::unexpected(Refusal{"API version 12", 0});
  if (auto read = host->ReadCapabilities(); !read) return tl::unexpected(read.error());
  if (auto read = host->ReadSupportedCpuid(); !read) return tl::unexpected(read.error());
  return host;
}

KvmHost::~KvmHost() {
  api_.Close(fd_);
}

int KvmHost::Check(int capability) const {
  const int answer = api_.Ioctl(fd_, KVM_CHECK_EXTENSION,
                                static_cast<uintptr_t>(static_cast<unsigned>(capability)));
  return answer > 0 ? answer : 0;
}

KvmResult<void> KvmHost::ReadCapabilities() {
  for (const Required& required : kRequired)
    if (Check(required.capability) == 0) return tl::unexpected(Refusal{required.name, 0});
  Capabilities& caps = capabilities_;
  caps.emulation_failure_exit = Check(KVM_CAP_EXIT_ON_EMULATION_FAILURE);
  caps.tsc_control = Check(KVM_CAP_TSC_CONTROL);
  caps.tsc_deadline = Check(KVM_CAP_TSC_DEADLINE_TIMER);
  constexpr int kX2ApicFlags =
      KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK;
  caps.x2apic_ids = (Check(KVM_CAP_X2APIC_API) & kX2ApicFlags) == kX2ApicFlags;
  caps.ioeventfd_any_length = Check(KVM_CAP_IOEVENTFD_ANY_LENGTH);
  caps.guest_debug = Check(KVM_CAP_SET_GUEST_DEBUG);
  caps.debug_blocks_interrupts = Check(KVM_CAP_SET_GUEST_DEBUG2) & KVM_GUESTDBG_BLOCKIRQ;
  if (const int size = Check(KVM_CAP_XSAVE2); size > 0) caps.xsave_size = size;
  caps.max_vcpus = Check(KVM_CAP_MAX_VCPUS);
  if (caps.max_vcpus == 0) caps.max_vcpus = 4;  // [KVM API] 4.7

  const int run_size = api_.Ioctl(fd_, KVM_GET_VCPU_MMAP_SIZE, uintptr_t{0});
  if (run_size < 0) return tl::unexpected(Refusal{"KVM_GET_VCPU_MMAP_SIZE", -run_size});
  if (static_cast<size_t>(run_size) < sizeof(kvm_run))
    return tl::unexpected(Refusal{"a whole kvm_run", 0});
  caps.run_size = run_size;
  return {};
}

KvmResult<void> KvmHost::ReadSupportedCpuid() {
  FlexibleList<kvm_cpuid2, kvm_cpuid_entry2> list(kMaxCpuidEntries);
  list->nent = kMaxCpuidEntries;
  const int result = api_.Ioctl(fd_, KVM_GET_SUPPORTED_CPUID, list.get());
  if (result < 0) return tl::unexpected(Refusal{"KVM_GET_SUPPORTED_CPUID", -result});
  for (unsigned i = 0; i < list->nent && i < kMaxCpuidEntries; ++i) {
    const kvm_cpuid_entry2& entry = list->entries[i];
    vmm::CpuidEntry copy;
    copy.leaf = entry.function;
    copy.subleaf = entry.index;
    copy.has_subleaf = entry.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
    copy.regs = {entry.eax, entry.ebx, entry.ecx, entry.edx};
    if (copy.leaf == 1) {
      // KVM tells of these elsewhere, or leaves them to whoever owns the APIC. [KVM API] 4.46
      constexpr uint32_t kX2Apic = 1u << 21, kTscDeadline = 1u << 24, kOsxsave = 1u << 27,
                         kXsave = 1u << 26, kHypervisor = 1u << 31;
      copy.regs.ecx |= kX2Apic | kHypervisor;
      if (capabilities_.tsc_deadline) copy.regs.ecx |= kTscDeadline;
      if (copy.regs.ecx & kXsave) copy.regs.ecx |= kOsxsave;
      constexpr uint32_t kApic = 1u << 9;
      copy.regs.edx |= kApic;
    }
    supported_cpuid_.push_back(copy);
  }
  // KVM tells of this register's bits as of features, where it can. [KVM API] 4.18
  FlexibleList<kvm_msrs, kvm_msr_entry> msrs(1);
  msrs->nmsrs = 1;
  msrs->entries[0].index = vmm::kIa32ArchCapabilities;
  if (api_.Ioctl(fd_, KVM_GET_MSRS, msrs.get()) == 1) {
    const uint64_t bits = msrs->entries[0].data;
    vmm::CpuidEntry entry;
    entry.leaf = vmm::kArchCapabilitiesLeaf;
    entry.regs.eax = static_cast<uint32_t>(bits);
    entry.regs.edx = static_cast<uint32_t>(bits >> 32);
    supported_cpuid_.push_back(entry);
  }
  return {};
}

}  // namespace kvm
