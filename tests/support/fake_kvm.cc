#include "tests/support/fake_kvm.h"

#include <time.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <optional>

#include "vmm/core/base/check.h"

namespace vmm::test {
namespace {

constexpr int kSystemFd = 1000, kVmFd = 1001, kFirstVcpuFd = 1100;
constexpr size_t kRunSize = 3 * 4096;
constexpr size_t kDataOffset = 4096;  // of port data, as in Linux

template <class T>
T& At(uintptr_t argument) {
  return *reinterpret_cast<T*>(argument);
}

double ThreadSeconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

void PortExit(kvm_run& run, int direction, uint16_t port, uint8_t size) {
  run.exit_reason = KVM_EXIT_IO;
  run.io.direction = static_cast<uint8_t>(direction);
  run.io.port = port;
  run.io.size = size;
  run.io.count = 1;
  run.io.data_offset = kDataOffset;
}

std::optional<probe::Stage> StageAt(uint64_t rip) {
  for (unsigned i = 0; i < probe::kStages; ++i)
    if (probe::Entry(static_cast<probe::Stage>(i)) == rip) return static_cast<probe::Stage>(i);
  return std::nullopt;
}

}  // namespace

FakeKvm::FakeKvm() {
  facts.device_exists = true;
  facts.device_group = "kvm";
  facts.device_mode = 0660;
  facts.user = "alice";
  facts.user_in_group = facts.group_active = true;
  facts.cpu_extension = "vmx";
  facts.module = facts.backend = "kvm_intel";
  facts.nested_paging = true;
  for (int cap :
       {KVM_CAP_USER_MEMORY, KVM_CAP_SET_TSS_ADDR, KVM_CAP_SET_IDENTITY_MAP_ADDR, KVM_CAP_EXT_CPUID,
        KVM_CAP_IRQCHIP, KVM_CAP_SPLIT_IRQCHIP, KVM_CAP_SIGNAL_MSI, KVM_CAP_IRQFD,
        KVM_CAP_IOEVENTFD, KVM_CAP_IOEVENTFD_ANY_LENGTH, KVM_CAP_MP_STATE, KVM_CAP_VCPU_EVENTS,
        KVM_CAP_XSAVE, KVM_CAP_XCRS, KVM_CAP_DEBUGREGS, KVM_CAP_IMMEDIATE_EXIT, KVM_CAP_TSC_CONTROL,
        KVM_CAP_TSC_DEADLINE_TIMER, KVM_CAP_EXIT_ON_EMULATION_FAILURE})
    capabilities_[cap] = 1;
  capabilities_[KVM_CAP_IRQ_ROUTING] = 4096;
  capabilities_[KVM_CAP_MAX_VCPUS] = 64;
  capabilities_[KVM_CAP_X2APIC_API] = 3;
  capabilities_[KVM_CAP_XSAVE2] = 4096;
  for (uint32_t leaf : {0u, 1u, 2u, 4u, 7u, 0xbu, 0xdu, 0x15u, 0x40000000u, 0x40000001u,
                        0x80000000u, 0x80000001u, 0x80000007u, 0x80000008u}) {
    kvm_cpuid_entry2 entry{};
    entry.function = leaf;
    entry.eax = entry.ebx = entry.ecx = entry.edx = ~0u;
    supported_cpuid.push_back(entry);
  }
}

FakeKvm::Vcpu& FakeKvm::vcpu(unsigned id) {
  for (auto vcpu = vcpus_.rbegin(); vcpu != vcpus_.rend(); ++vcpu)
    if ((*vcpu)->id == id) return **vcpu;
  CHECK(false);
  __builtin_unreachable();
}

int FakeKvm::Open() {
  if (open_error != 0) return -open_error;
  std::lock_guard lock(mutex_);
  ++open_fds;
  return kSystemFd;
}

void FakeKvm::Close(int) {
  std::lock_guard lock(mutex_);
  --open_fds;
}

int FakeKvm::Ioctl(int fd, unsigned long request, uintptr_t argument) {
  if (request == KVM_RUN) return Run(*vcpus_[fd - kFirstVcpuFd]);
  std::lock_guard lock(mutex_);
  if (const auto refused = refused_.find(request); refused != refused_.end())
    return -refused->second;
  if (fd == kSystemFd) return SystemCall(request, argument);
  if (fd == kVmFd) return VmCall(request, argument);
  return VcpuCall(*vcpus_[fd - kFirstVcpuFd], request, argument);
}

void* FakeKvm::MapRun(int vcpu_fd, size_t size) {
  if (map_fails) return nullptr;
  CHECK(size == kRunSize);
  auto& page = vcpus_[vcpu_fd - kFirstVcpuFd]->run;
  page.assign(size, 0);
  return page.data();
}

void FakeKvm::UnmapRun(void*, size_t) {}

int FakeKvm::SystemCall(unsigned long request, uintptr_t argument) {
  switch (request) {
    case KVM_GET_API_VERSION:
      return KVM_API_VERSION;
    case KVM_CHECK_EXTENSION: {
      const auto found = capabilities_.find(static_cast<int>(argument));
      return found != capabilities_.end() ? found->second : 0;
    }
    case KVM_GET_VCPU_MMAP_SIZE:
      return kRunSize;
    case KVM_GET_SUPPORTED_CPUID: {
      auto& list = At<kvm_cpuid2>(argument);
      if (list.nent < supported_cpuid.size()) return -E2BIG;
      list.nent = static_cast<uint32_t>(supported_cpuid.size());
      std::copy(supported_cpuid.begin(), supported_cpuid.end(), list.entries);
      return 0;
    }
    case KVM_CREATE_VM:
      ++open_fds;
      return kVmFd;
    default:
      return -ENOTTY;
  }
}

int FakeKvm::VmCall(unsigned long request, uintptr_t argument) {
  switch (request) {
    case KVM_SET_TSS_ADDR:
    case KVM_SET_IDENTITY_MAP_ADDR:
      return 0;
    case KVM_ENABLE_CAP:
      enabled.push_back(At<kvm_enable_cap>(argument));
      return 0;
    case KVM_CREATE_VCPU: {
      auto vcpu = std::make_unique<Vcpu>();
      vcpu->id = static_cast<unsigned>(argument);
      vcpu->tsc_khz = tsc_khz;
      vcpus_.push_back(std::move(vcpu));
      ++open_fds;
      return kFirstVcpuFd + static_cast<int>(vcpus_.size()) - 1;
    }
    case KVM_SET_USER_MEMORY_REGION: {
      const auto& region = At<kvm_userspace_memory_region>(argument);
      if (region.memory_size == 0)
        slots.erase(region.slot);
      else
        slots[region.slot] = {region.guest_phys_addr, region.memory_size, region.userspace_addr};
      return 0;
    }
    case KVM_SIGNAL_MSI:
      msis.push_back(At<kvm_msi>(argument));
      return 1;
    case KVM_SET_GSI_ROUTING: {
      const auto& table = At<kvm_irq_routing>(argument);
      routes.assign(table.entries, table.entries + table.nr);
      ++route_updates;
      return 0;
    }
    case KVM_SET_CLOCK:
      clock = At<kvm_clock_data>(argument);
      return 0;
    case KVM_GET_CLOCK:
      At<kvm_clock_data>(argument) = clock;
      return 0;
    case KVM_IOEVENTFD:
      ioeventfds.push_back(At<kvm_ioeventfd>(argument));
      return 0;
    case KVM_IRQFD:
      irqfds.push_back(At<kvm_irqfd>(argument));
      return 0;
    default:
      return -ENOTTY;
  }
}

int FakeKvm::VcpuCall(Vcpu& vcpu, unsigned long request, uintptr_t argument) {
  switch (request) {
    case KVM_SET_CPUID2: {
      const auto& list = At<kvm_cpuid2>(argument);
      if (vcpu.runs > 0) return -EINVAL;  // as Linux 5.16 and newer
      vcpu.cpuid.assign(list.entries, list.entries + list.nent);
      return 0;
    }
    case KVM_SET_REGS:
      vcpu.regs = At<kvm_regs>(argument);
      vcpu.phase = 0;
      return 0;
    case KVM_GET_REGS:
      At<kvm_regs>(argument) = vcpu.regs;
      return 0;
    case KVM_SET_SREGS:
      vcpu.sregs = At<kvm_sregs>(argument);
      return 0;
    case KVM_GET_SREGS:
      At<kvm_sregs>(argument) = vcpu.sregs;
      return 0;
    case KVM_SET_DEBUGREGS:
      vcpu.debugregs = At<kvm_debugregs>(argument);
      return 0;
    case KVM_GET_DEBUGREGS:
      At<kvm_debugregs>(argument) = vcpu.debugregs;
      return 0;
    case KVM_SET_LAPIC:
      vcpu.lapic = At<kvm_lapic_state>(argument);
      return 0;
    case KVM_GET_LAPIC:
      At<kvm_lapic_state>(argument) = vcpu.lapic;
      return 0;
    case KVM_SET_VCPU_EVENTS:
      vcpu.events = At<kvm_vcpu_events>(argument);
      return 0;
    case KVM_GET_VCPU_EVENTS:
      At<kvm_vcpu_events>(argument) = vcpu.events;
      return 0;
    case KVM_SET_MP_STATE:
      vcpu.mp = At<kvm_mp_state>(argument);
      return 0;
    case KVM_GET_MP_STATE:
      At<kvm_mp_state>(argument) = vcpu.mp;
      return 0;
    case KVM_SET_XCRS:
      vcpu.xcrs = At<kvm_xcrs>(argument);
      return 0;
    case KVM_GET_XCRS:
      At<kvm_xcrs>(argument) = vcpu.xcrs;
      return 0;
    case KVM_SET_XSAVE:
      std::memcpy(vcpu.xsave.data(), reinterpret_cast<void*>(argument), vcpu.xsave.size());
      return 0;
    case KVM_GET_XSAVE:
    case KVM_GET_XSAVE2:
      std::memcpy(reinterpret_cast<void*>(argument), vcpu.xsave.data(), vcpu.xsave.size());
      return 0;
    case KVM_SET_MSRS:
    case KVM_GET_MSRS:
      return TransferMsrs(vcpu, At<kvm_msrs>(argument), request == KVM_SET_MSRS);
    case KVM_INTERRUPT:
      vcpu.interrupts.push_back(At<kvm_interrupt>(argument).irq);
      return 0;
    case KVM_GET_TSC_KHZ:
      return vcpu.tsc_khz;
    case KVM_SET_TSC_KHZ:
      vcpu.tsc_khz = static_cast<int>(argument);
      return 0;
    case KVM_SET_GUEST_DEBUG:
      vcpu.guest_debug = At<kvm_guest_debug>(argument);
      ++vcpu.guest_debugs;
      return 0;
    case KVM_SET_SIGNAL_MASK:
      return 0;
    default:
      return -ENOTTY;
  }
}

// Like the kernel: stops at the first register it refuses, and returns how many were done.
int FakeKvm::TransferMsrs(Vcpu& vcpu, kvm_msrs& list, bool set) {
  for (uint32_t i = 0; i < list.nmsrs; ++i) {
    kvm_msr_entry& entry = list.entries[i];
    if (unreadable_msrs.contains(entry.index)) return static_cast<int>(i);
    if (set && unwritable_msrs.contains(entry.index)) return static_cast<int>(i);
    if (set)
      vcpu.msrs[entry.index] = entry.data;
    else
      entry.data = vcpu.msrs[entry.index];
  }
  return static_cast<int>(list.nmsrs);
}

int FakeKvm::WaitForKick(kvm_run& run) {
  std::atomic_ref<uint8_t> immediate_exit(run.immediate_exit);
  const timespec nap{0, 2'000'000};
  while (immediate_exit.load() == 0)
    if (nanosleep(&nap, nullptr) != 0) return -EINTR;
  return -EINTR;
}

int FakeKvm::Run(Vcpu& vcpu) {
  auto& run = At<kvm_run>(reinterpret_cast<uintptr_t>(vcpu.run.data()));
  ++vcpu.runs;
  if (std::atomic_ref<uint8_t>(run.immediate_exit).load() != 0) {
    ++vcpu.immediate_exits;
    return -EINTR;
  }
  if (const auto stage = StageAt(vcpu.regs.rip); stage && exits_.empty())
    return RunProbeGuest(vcpu, run, *stage);
  if (exits_.empty()) return other_guests ? other_guests(run) : WaitForKick(run);
  const Exit exit = std::move(exits_.front());
  exits_.pop_front();
  return exit(run);
}

int FakeKvm::RunProbeGuest(Vcpu& vcpu, kvm_run& run, probe::Stage stage) {
  if (hanging_stages.contains(stage)) return WaitForKick(run);
  if (failing_stages.contains(stage)) {
    run.exit_reason = KVM_EXIT_INTERNAL_ERROR;
    run.internal.suberror = KVM_INTERNAL_ERROR_EMULATION;
    run.internal.ndata = 0;
    return 0;
  }
  if (stage != probe::Stage::kLoop) {
    PortExit(run, KVM_EXIT_IO_OUT, probe::kDonePort, 1);
    return 0;
  }
  if (vcpu.phase++ % 2 == 0) {
    PortExit(run, KVM_EXIT_IO_IN, probe::kCountPort, 4);
    return 0;
  }
  uint32_t count;
  std::memcpy(&count, vcpu.run.data() + kDataOffset, sizeof count);
  const double start = ThreadSeconds();
  probe::NativeLoop(count);
  const double end = start + (ThreadSeconds() - start) * guest_slowness;
  while (ThreadSeconds() < end) {
  }
  PortExit(run, KVM_EXIT_IO_OUT, probe::kDonePort, 1);
  return 0;
}

}  // namespace vmm::test
