// What a KVM machine is made of. Sections are of [KVM API].
#include <cerrno>

#include "tests/unit/kvm/kvm_fixture.h"

namespace kvm::test {
namespace {

using Catch::Matchers::Contains;

TEST_CASE_METHOD(KvmFixture, "guest memory becomes memory slots", "[kvm]") {
  Start();
  REQUIRE(host.slots.size() == memory.regions().size());
  CHECK(host.slots[0].start == 0);
  CHECK(host.slots[0].size == 4 * vmm::kMiB);
  CHECK(host.slots[0].host == reinterpret_cast<uintptr_t>(memory.regions()[0].host));
}

// 7.5 KVM_CAP_SPLIT_IRQCHIP
TEST_CASE_METHOD(KvmFixture, "the local APICs are in the kernel, the IOAPIC's 24 pins are ours",
                 "[kvm]") {
  Start();
  const auto split = std::find_if(host.enabled.begin(), host.enabled.end(),
                                  [](const auto& cap) { return cap.cap == KVM_CAP_SPLIT_IRQCHIP; });
  REQUIRE(split != host.enabled.end());
  CHECK(split->args[0] == 24);
}

TEST_CASE_METHOD(KvmFixture, "each processor has its own APIC id in CPUID", "[kvm]") {
  Start();
  auto second = vm->CreateVcpu(1);
  REQUIRE(second);
  for (unsigned id : {0u, 1u}) {
    const auto& entries = host.vcpu(id).cpuid;
    const auto leaf1 = std::find_if(entries.begin(), entries.end(),
                                    [](const auto& entry) { return entry.function == 1; });
    REQUIRE(leaf1 != entries.end());
    CHECK(leaf1->ebx >> 24 == id);  // [SDM 2A] CPUID: initial APIC id
  }
}

TEST_CASE_METHOD(KvmFixture, "CPUID shows the guest nothing that this KVM can't give", "[kvm]") {
  for (auto& entry : host.supported_cpuid)
    if (entry.function == 1) entry.ecx &= ~(1u << 25);  // AESNI
  Start();
  for (const auto& entry : host.vcpu(0).cpuid)
    if (entry.function == 1) CHECK((entry.ecx & (1u << 25)) == 0);
}

// 4.70 KVM_SIGNAL_MSI
TEST_CASE_METHOD(KvmFixture, "messages and NMIs go to the local APICs as MSIs", "[kvm]") {
  Start();
  vm->SendMsi({0xfee01004, 0x4041});
  vm->InjectNmi(1);
  REQUIRE(host.msis.size() == 2);
  CHECK(host.msis[0].address_lo == 0xfee01004);
  CHECK(host.msis[0].data == 0x4041);
  CHECK(host.msis[1].address_lo == 0xfee01000);
  CHECK(host.msis[1].data == 0x400);  // [SDM 3A] 10.11.2: delivery mode NMI
}

// 4.52 KVM_SET_GSI_ROUTING: KVM needs the level-triggered routes to report their EOIs.
TEST_CASE_METHOD(KvmFixture, "routes of the IOAPIC follow its table", "[kvm]") {
  Start();
  vm->IoapicRouteChanged(9, {0xfee00000, 0x51}, false, true);
  REQUIRE(host.routes.size() == 1);
  CHECK(host.routes[0].gsi == 9);
  CHECK(host.routes[0].type == KVM_IRQ_ROUTING_MSI);
  CHECK(host.routes[0].u.msi.data == 0x8051);

  SECTION("a masked pin keeps its route: its last interrupt may still be in service") {
    vm->IoapicRouteChanged(9, {0xfee00000, 0x51}, true, true);
    CHECK(host.routes.size() == 1);
    CHECK(host.route_updates == 1);
  }
  SECTION("nothing is told to KVM when nothing changed") {
    vm->IoapicRouteChanged(9, {0xfee00000, 0x51}, false, true);
    CHECK(host.route_updates == 1);
  }
  SECTION("a new vector replaces the old") {
    vm->IoapicRouteChanged(9, {0xfee00000, 0x61}, false, false);
    REQUIRE(host.routes.size() == 1);
    CHECK(host.routes[0].u.msi.data == 0x61);
  }
}

// 4.59 KVM_IOEVENTFD
TEST_CASE_METHOD(KvmFixture, "an eventfd is wired to a port or an address", "[kvm]") {
  Start();
  REQUIRE(vm->AddIoEventFd(true, 0xc050, 2, 5));
  REQUIRE(vm->AddIoEventFd(false, 0xfe003000, 0, 6));
  REQUIRE(vm->RemoveIoEventFd(false, 0xfe003000, 0, 6));
  REQUIRE(host.ioeventfds.size() == 3);
  CHECK(host.ioeventfds[0].flags == KVM_IOEVENTFD_FLAG_PIO);
  CHECK(host.ioeventfds[0].len == 2);
  CHECK(host.ioeventfds[1].flags == 0);
  CHECK(host.ioeventfds[2].flags == KVM_IOEVENTFD_FLAG_DEASSIGN);
}

TEST_CASE_METHOD(KvmFixture, "an eventfd for any size is refused where KVM has none", "[kvm]") {
  host.SetCapability(KVM_CAP_IOEVENTFD_ANY_LENGTH, 0);
  Start();
  CHECK(vm->AddIoEventFd(false, 0xfe003000, 0, 6).error().code == vmm::ExitCode::kUnavailable);
  CHECK(host.ioeventfds.empty());
}

// 4.75 KVM_IRQFD
TEST_CASE_METHOD(KvmFixture, "an eventfd raises an interrupt through a route above the IOAPIC's",
                 "[kvm]") {
  Start();
  const auto id = vm->AddIrqFd(7, {0xfee00000, 0x71});
  REQUIRE(id);
  CHECK(*id >= 24);
  REQUIRE(host.irqfds.size() == 1);
  CHECK(host.irqfds[0].gsi == *id);
  REQUIRE(vm->UpdateIrqFd(*id, {0xfee00000, 0x72}));
  CHECK(host.routes[0].u.msi.data == 0x72);
  vm->RemoveIrqFd(*id, 7);
  CHECK(host.irqfds[1].flags == KVM_IRQFD_FLAG_DEASSIGN);
  CHECK(host.routes.empty());
  CHECK(*vm->AddIrqFd(8, {0xfee00000, 0x73}) == *id);  // the number is free again
}

// 4.55 KVM_SET_TSC_KHZ
TEST_CASE_METHOD(KvmFixture, "the TSC runs as the machine's clock says", "[kvm]") {
  SECTION("nothing is changed for a difference that the hardware's own error explains") {
    host.tsc_khz = 2'000'100;
    Start();
    CHECK(host.vcpu(0).tsc_khz == 2'000'100);
  }
  SECTION("another frequency is asked for") {
    host.tsc_khz = 3'000'000;
    Start();
    CHECK(host.vcpu(0).tsc_khz == 2'000'000);
  }
}

TEST_CASE_METHOD(KvmFixture, "all descriptors are closed at the end", "[kvm]") {
  Start();
  vcpu.reset();
  vm.reset();
  accelerator.reset();
  CHECK(host.open_fds == 0);
}

TEST_CASE_METHOD(KvmFixture, "a VM that the host refuses is an unavailable engine, with the reason",
                 "[kvm]") {
  host.Refuse(KVM_CREATE_VM, EBUSY);
  accelerator = std::move(*KvmAccelerator::Create(host));
  const auto made =
      accelerator->CreateVm({memory, ports, mmio, clock, timers, pic, ioapic, cpuid, 1});
  REQUIRE(!made);
  CHECK(made.error().code == vmm::ExitCode::kEngineUnavailable);
  CHECK_THAT(made.error().message, Contains("VMX"));
}

TEST_CASE_METHOD(KvmFixture, "memory that KVM refuses is an error, not an abort", "[kvm]") {
  host.Refuse(KVM_SET_USER_MEMORY_REGION, ENOMEM);
  accelerator = std::move(*KvmAccelerator::Create(host));
  const auto made =
      accelerator->CreateVm({memory, ports, mmio, clock, timers, pic, ioapic, cpuid, 1});
  REQUIRE(!made);
  CHECK(made.error().code == vmm::ExitCode::kEngineFailed);
}

TEST_CASE_METHOD(KvmFixture, "the VM that was prepared is the one that is used", "[kvm]") {
  accelerator = std::move(*KvmAccelerator::Create(host));
  vmm::CpuidPolicy policy = cpuid;
  accelerator->Restrict(policy);
  REQUIRE(accelerator->Prepare(policy));
  const int fds = host.open_fds;
  SECTION("with an equal CPUID") {
    vm = std::move(
        *accelerator->CreateVm({memory, ports, mmio, clock, timers, pic, ioapic, cpuid, 2}));
    CHECK(host.open_fds == fds);
  }
  SECTION("not with another CPUID, which can't be changed any more") {
    const vmm::CpuidPolicy other = vmm::CpuidPolicy::Build({.cpu_count = 8});
    vm = std::move(
        *accelerator->CreateVm({memory, ports, mmio, clock, timers, pic, ioapic, other, 8}));
    CHECK(host.vcpu(0).runs == 0);
    CHECK(host.open_fds == fds);  // the prepared one is closed, one more is open
  }
}

}  // namespace
}  // namespace kvm::test
