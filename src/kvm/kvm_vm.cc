#include "kvm/kvm_vm.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>

#include "kvm/kvm_uapi.h"
#include "vmm/core/base/check.h"
#include "vmm/core/base/log.h"

namespace kvm {

using vmm::ExitCode;
using vmm::Result;

namespace {

tl::unexpected<vmm::Error> Refused(std::string_view what, int result) {
  return vmm::Fail(ExitCode::kEngineFailed,
                   fmt::format("KVM refuses {}: {}", what, std::strerror(-result)));
}

// The message is level-triggered. [SDM 3A] 10.11.2
constexpr uint32_t kMsiLevel = 1u << 15;

}  // namespace

Result<std::unique_ptr<KvmVm>> KvmVm::Create(PreparedVm& prepared, const vmm::VmParts& parts) {
  std::unique_ptr<KvmVm> vm(new KvmVm(prepared.TakeVm(), prepared.cpuid(), parts));
  vm->cpu0_ = prepared.TakeCpu0();
  vm->msrs_ = prepared.msrs();
  if (auto added = vm->AddMemory(); !added) return tl::unexpected(added.error());
  return vm;
}

Result<void> KvmVm::AddMemory() {
  unsigned slot = 0;
  for (const vmm::RamRegion& region : parts_.memory.regions())
    if (const int r = vm_->SetMemory(slot++, region.start.value, region.size, region.host); r < 0)
      return Refused(fmt::format("{} MiB of memory", region.size / vmm::kMiB), r);
  if (const vmm::RamRegion* rom = parts_.memory.rom()) {
    const int r = vm_->SetMemory(slot, rom->start.value, rom->size, rom->host, /*read_only=*/true);
    if (r < 0) return Refused(fmt::format("{} KiB of ROM", rom->size / vmm::kKiB), r);
  }
  return {};
}

Result<std::unique_ptr<vmm::Vcpu>> KvmVm::CreateVcpu(unsigned id) {
  std::unique_ptr<VcpuFd> fd;
  if (id == 0) {
    fd = std::move(cpu0_);
    CHECK(fd != nullptr);  // each id once
  } else {
    auto created = VcpuFd::Create(*vm_, id, cpuid_);
    if (!created)
      return tl::unexpected(ToError(created.error(), vm_->host().api().Facts())
                                .WithContext(fmt::format("CPU {}", id)));
    fd = std::move(*created);
  }
  if (auto set = SetTscFrequency(*fd); !set) return tl::unexpected(set.error());
  KvmVcpu::Wiring wiring{parts_.ports,   parts_.mmio, parts_.ioapic, debug_, nullptr,
                         parts_.rescuer, {}};
  if (id == 0) {
    wiring.pic = &parts_.pic;
    wiring.on_destroyed = [this] {
      std::lock_guard lock(boot_cpu_mutex_);
      boot_cpu_ = nullptr;
    };
  }
  auto vcpu = std::make_unique<KvmVcpu>(std::move(fd), msrs_, std::move(wiring));
  if (id == 0) {
    std::lock_guard lock(boot_cpu_mutex_);
    boot_cpu_ = vcpu.get();
  }
  return vcpu;
}

// A guest calibrated by CPUID must tick as CPUID says. [KVM API] 4.55, 4.56
Result<void> KvmVm::SetTscFrequency(const VcpuFd& vcpu) {
  const int64_t wanted = static_cast<int64_t>(parts_.clock.tsc_hz() / 1000);
  const int64_t host = vcpu.Ioctl(KVM_GET_TSC_KHZ, uintptr_t{0});
  if (wanted == 0 || host <= 0) return {};
  constexpr int64_t kTolerancePpm = 250;  // as KVM's own tsc_tolerance_ppm
  if (std::abs(host - wanted) <= wanted * kTolerancePpm / 1'000'000) return {};
  const int result = vcpu.Ioctl(KVM_SET_TSC_KHZ, static_cast<uintptr_t>(wanted));
  if (result >= 0) return {};
  vmm::Log(vmm::LogLevel::kWarning,
           fmt::format("the guest's TSC runs at {} kHz, not at {} kHz: this CPU can't scale it",
                       host, wanted));
  return {};
}

Result<void> KvmVm::SetDebugPoints(std::span<const vmm::DebugPoint> points,
                                   const vmm::CpuState& context) {
  if (!points.empty() && !vm_->host().capabilities().guest_debug) {
    return vmm::Fail(ExitCode::kUnavailable, "this KVM lets nobody debug its guests");
  }
  return debug_.Set(points, context);
}

void KvmVm::SendMsi(vmm::MsiMessage message) {
  kvm_msi msi{};
  msi.address_lo = static_cast<uint32_t>(message.address);
  msi.address_hi = static_cast<uint32_t>(message.address >> 32);
  msi.data = message.data;
  // Fails when no APIC takes it (0) or the guest built nonsense (-EINVAL): hardware drops both.
  vm_->Ioctl(KVM_SIGNAL_MSI, &msi);
}

void KvmVm::ExtIntChanged() {
  std::lock_guard lock(boot_cpu_mutex_);
  if (boot_cpu_ != nullptr) boot_cpu_->Poke();
}

// KVM_NMI would wait for the vCPU to leave KVM_RUN; a message with delivery mode NMI does not.
void KvmVm::InjectNmi(unsigned cpu) {
  constexpr uint64_t kMsiAddress = 0xfee00000;
  constexpr uint32_t kDeliveryNmi = 4u << 8;  // [SDM 3A] 10.11.2
  SendMsi({kMsiAddress | uint64_t{cpu} << 12, kDeliveryNmi});
}

void KvmVm::IoapicRouteChanged(unsigned pin, vmm::MsiMessage message, bool masked, bool level) {
  // A masked pin keeps its route: what it sent before may still be in service, and its EOI counts.
  if (masked || pin >= VmFd::kIoapicPins) return;
  message.data = level ? message.data | kMsiLevel : message.data & ~kMsiLevel;
  if (const int r = routes_.Set(pin, message); r < 0)
    vmm::LogGuest(vmm::LogLevel::kWarning, fmt::format("KVM refuses the route of IOAPIC pin {}: {}",
                                                       pin, std::strerror(-r)));
}

// [KVM API] 4.29, 4.30
std::optional<vmm::Nanoseconds> KvmVm::GuestTime() {
  kvm_clock_data data{};
  if (vm_->Ioctl(KVM_GET_CLOCK, &data) < 0) return {};
  return vmm::Nanoseconds(static_cast<int64_t>(data.clock));
}

void KvmVm::SetGuestTime(vmm::Nanoseconds time) {
  kvm_clock_data data{};
  data.clock = static_cast<uint64_t>(time.count());
  if (const int r = vm_->Ioctl(KVM_SET_CLOCK, &data); r < 0)
    vmm::Log(vmm::LogLevel::kWarning,
             fmt::format("KVM refuses the guest's clock: {}", std::strerror(-r)));
}

Result<void> KvmVm::AddIoEventFd(bool port, uint64_t address, unsigned size, int fd) {
  return IoEventFd(port, address, size, fd, false);
}

Result<void> KvmVm::RemoveIoEventFd(bool port, uint64_t address, unsigned size, int fd) {
  return IoEventFd(port, address, size, fd, true);
}

// [KVM API] 4.59
Result<void> KvmVm::IoEventFd(bool port, uint64_t address, unsigned size, int fd, bool remove) {
  if (size == 0 && !vm_->host().capabilities().ioeventfd_any_length)
    return vmm::Fail(ExitCode::kUnavailable, "this KVM has no eventfd for writes of any size");
  kvm_ioeventfd request{};
  request.addr = address;
  request.len = size;
  request.fd = fd;
  request.flags = (port ? KVM_IOEVENTFD_FLAG_PIO : 0) | (remove ? KVM_IOEVENTFD_FLAG_DEASSIGN : 0);
  const int result = vm_->Ioctl(KVM_IOEVENTFD, &request);
  if (result < 0) return Refused(fmt::format("an eventfd at {:#x}", address), result);
  return {};
}

// [KVM API] 4.75
Result<unsigned> KvmVm::AddIrqFd(int fd, vmm::MsiMessage message) {
  const int gsi = routes_.Allocate();
  if (gsi < 0) return Refused("another interrupt route", gsi);
  int result = routes_.Set(gsi, message);
  if (result >= 0) {
    kvm_irqfd request{};
    request.fd = fd;
    request.gsi = gsi;
    result = vm_->Ioctl(KVM_IRQFD, &request);
  }
  if (result < 0) {
    routes_.Free(gsi);
    return Refused("an interrupt eventfd", result);
  }
  return static_cast<unsigned>(gsi);
}

Result<void> KvmVm::UpdateIrqFd(unsigned id, vmm::MsiMessage message) {
  if (const int r = routes_.Set(id, message); r < 0) return Refused("an interrupt route", r);
  return {};
}

void KvmVm::RemoveIrqFd(unsigned id, int fd) {
  kvm_irqfd request{};
  request.fd = fd;
  request.gsi = id;
  request.flags = KVM_IRQFD_FLAG_DEASSIGN;
  vm_->Ioctl(KVM_IRQFD, &request);
  routes_.Free(id);
}

}  // namespace kvm
