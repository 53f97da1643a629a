#include "kvm/vm_fd.h"

#include <cerrno>

#include "kvm/kvm_uapi.h"

namespace kvm {
namespace {

// Four pages that KVM on Intel needs inside the guest-physical space, between the local APIC and
// the firmware: one identity page table, three pages of TSS. [KVM API] 4.36, 4.40
constexpr uint64_t kIdentityMapAddress = 0xfeffc000;
constexpr uintptr_t kTssAddress = 0xfeffd000;

}  // namespace

KvmResult<std::unique_ptr<VmFd>> VmFd::Create(KvmHost& host) {
  int fd;
  do fd = host.api().Ioctl(host.fd(), KVM_CREATE_VM, uintptr_t{0});
  while (fd == -EINTR);
  if (fd < 0) return tl::unexpected(Refusal{"KVM_CREATE_VM", -fd});
  std::unique_ptr<VmFd> vm(new VmFd(host, fd));

  uint64_t identity = kIdentityMapAddress;
  if (const int r = vm->Ioctl(KVM_SET_IDENTITY_MAP_ADDR, &identity); r < 0)
    return tl::unexpected(Refusal{"KVM_SET_IDENTITY_MAP_ADDR", -r});
  if (const int r = vm->Ioctl(KVM_SET_TSS_ADDR, kTssAddress); r < 0)
    return tl::unexpected(Refusal{"KVM_SET_TSS_ADDR", -r});

  // The local APICs in the kernel; 8259, IOAPIC and 8254 are ours. [KVM API] 7.5
  kvm_enable_cap cap{};
  cap.cap = KVM_CAP_SPLIT_IRQCHIP;
  cap.args[0] = kIoapicPins;
  if (const int r = vm->Ioctl(KVM_ENABLE_CAP, &cap); r < 0)
    return tl::unexpected(Refusal{"KVM_CAP_SPLIT_IRQCHIP", -r});

  if (host.capabilities().x2apic_ids) {
    cap = {};
    cap.cap = KVM_CAP_X2APIC_API;
    cap.args[0] = KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK;
    if (const int r = vm->Ioctl(KVM_ENABLE_CAP, &cap); r < 0)
      return tl::unexpected(Refusal{"KVM_CAP_X2APIC_API", -r});
  }
  // Otherwise KVM gives the guest #UD for what its own emulator can't do. [KVM API] 7.26
  if (host.capabilities().emulation_failure_exit) {
    cap = {};
    cap.cap = KVM_CAP_EXIT_ON_EMULATION_FAILURE;
    cap.args[0] = 1;
    if (const int r = vm->Ioctl(KVM_ENABLE_CAP, &cap); r < 0)
      return tl::unexpected(Refusal{"KVM_CAP_EXIT_ON_EMULATION_FAILURE", -r});
  }
  return vm;
}

VmFd::~VmFd() {
  host_.api().Close(fd_);
}

int VmFd::SetMemory(unsigned slot, uint64_t start, uint64_t size, void* memory,
                    bool read_only) const {
  kvm_userspace_memory_region region{};
  region.slot = slot;
  region.flags = read_only ? KVM_MEM_READONLY : 0;
  region.guest_phys_addr = start;
  region.memory_size = size;
  region.userspace_addr = reinterpret_cast<uintptr_t>(memory);
  return Ioctl(KVM_SET_USER_MEMORY_REGION, &region);
}

}  // namespace kvm
