// Every reason that a person may read when KVM is not used, and what it tells them to do.
#include "kvm/refusal.h"

#include <catch2/catch.hpp>
#include <cerrno>

namespace kvm {
namespace {

using Catch::Matchers::Contains;
using Catch::Matchers::StartsWith;

HostFacts Intel() {
  HostFacts facts;
  facts.device_exists = true;
  facts.device_group = "kvm";
  facts.device_mode = 0660;
  facts.user = "alice";
  facts.cpu_extension = "vmx";
  facts.module = facts.backend = "kvm_intel";
  return facts;
}

Explanation OpenFails(int error, const HostFacts& facts) {
  return Explain({"open /dev/kvm", error}, facts);
}

TEST_CASE("a missing module is named with the command that loads it", "[kvm]") {
  HostFacts facts = Intel();
  facts.backend = "";
  for (int error : {ENOENT, ENODEV, ENXIO}) {
    const Explanation why = OpenFails(error, facts);
    CHECK_THAT(why.reason, Contains("kvm_intel is not loaded"));
    CHECK(why.remedy == "sudo modprobe kvm_intel");
  }
}

TEST_CASE("a CPU without virtualization is told apart from a host that is a guest", "[kvm]") {
  HostFacts facts = Intel();
  facts.cpu_extension = facts.backend = "";
  CHECK_THAT(OpenFails(ENOENT, facts).reason, Contains("this CPU has no VT-x"));
  CHECK_THAT(OpenFails(ENOENT, facts).remedy, Contains("firmware"));
  facts.in_guest = true;
  CHECK_THAT(OpenFails(ENOENT, facts).reason, Contains("without nested virtualization"));
  facts.module = "kvm_amd";
  CHECK_THAT(OpenFails(ENOENT, facts).remedy, Contains("AMD-V"));
}

TEST_CASE("a container without /dev/kvm is told how to get it", "[kvm]") {
  HostFacts facts = Intel();
  facts.in_container = true;
  CHECK_THAT(OpenFails(ENOENT, facts).reason, Contains("in this container"));
  CHECK_THAT(OpenFails(ENOENT, facts).remedy, Contains("--device /dev/kvm"));
}

TEST_CASE("who is not in the group is told which group and how to join it", "[kvm]") {
  const HostFacts facts = Intel();
  for (int error : {EACCES, EPERM}) {
    const Explanation why = OpenFails(error, facts);
    CHECK(why.reason == "no access to /dev/kvm: alice is not in group kvm");
    CHECK_THAT(why.remedy, StartsWith("sudo usermod -aG kvm alice"));
  }
}

TEST_CASE("who joined the group after logging in is told to log in again", "[kvm]") {
  HostFacts facts = Intel();
  facts.user_in_group = true;
  CHECK_THAT(OpenFails(EACCES, facts).reason, Contains("this login is older"));
  CHECK(OpenFails(EACCES, facts).remedy == "newgrp kvm");
}

TEST_CASE("a device for root alone needs a udev rule", "[kvm]") {
  HostFacts facts = Intel();
  facts.device_mode = 0600;
  facts.device_group = "root";
  CHECK_THAT(OpenFails(EACCES, facts).reason, Contains("udev rule is missing"));
  CHECK_THAT(OpenFails(EACCES, facts).reason, Contains("0600"));
  CHECK_THAT(OpenFails(EACCES, facts).remedy, Contains("65-kvm.rules"));
}

TEST_CASE("root without access is behind a container's device rules", "[kvm]") {
  HostFacts facts = Intel();
  facts.root = true;
  CHECK_THAT(OpenFails(EPERM, facts).reason, Contains("even to root"));
}

TEST_CASE("a member of the group without access is behind an access list", "[kvm]") {
  HostFacts facts = Intel();
  facts.user_in_group = facts.group_active = true;
  CHECK_THAT(OpenFails(EACCES, facts).reason, Contains("access list"));
}

TEST_CASE("a busy KVM names who holds VMX", "[kvm]") {
  HostFacts facts = Intel();
  const Refusal busy{"KVM_CREATE_VM", EBUSY};
  CHECK(busy.kind() == Refusal::Kind::kBusy);
  CHECK_THAT(Explain(busy, facts).reason, Contains("another hypervisor holds VT-x (VMX)"));
  facts.vmx_holders = {"vboxdrv"};
  CHECK_THAT(Explain(busy, facts).reason, Contains("VirtualBox (vboxdrv)"));
  CHECK_THAT(Explain(busy, facts).remedy, Contains("modprobe -r"));
  facts.vmx_holders = {"vmmon"};
  facts.module = "kvm_amd";
  CHECK_THAT(Explain(busy, facts).reason, Contains("VMware (vmmon) holds AMD-V (SVM)"));
}

TEST_CASE("a KVM that is too old names what it lacks", "[kvm]") {
  const Refusal old{"KVM_CAP_SPLIT_IRQCHIP", 0};
  CHECK(old.kind() == Refusal::Kind::kUnusable);
  CHECK_THAT(Explain(old, Intel()).reason, Contains("KVM_CAP_SPLIT_IRQCHIP"));
  CHECK_THAT(Explain(old, Intel()).reason, Contains("Linux 5.10"));
  CHECK_THAT(Explain(old, Intel()).remedy, Contains("newer kernel"));
}

TEST_CASE("any other refusal carries the step and the system's words", "[kvm]") {
  CHECK_THAT(Explain({"KVM_CREATE_VM", ENOMEM}, Intel()).reason, Contains("no memory"));
  CHECK_THAT(Explain({"KVM_CREATE_VM", EIO}, Intel()).reason, Contains("firmware"));
  CHECK_THAT(Explain({"KVM_CREATE_VM", EMFILE}, Intel()).remedy, Contains("ulimit"));
  CHECK(Explain({"KVM_CREATE_VCPU", EINVAL}, Intel()).reason ==
        "KVM refused KVM_CREATE_VCPU: Invalid argument");
  CHECK_THAT(Explain({"KVM_CREATE_VCPU", EINVAL}, Intel()).remedy, Contains("dmesg"));
}

TEST_CASE("where KVM is required, a refusal ends with the engine's exit code", "[kvm]") {
  const vmm::Error error = ToError({"open /dev/kvm", EACCES}, Intel());
  CHECK(error.code == vmm::ExitCode::kEngineUnavailable);
  CHECK_THAT(error.message, Contains("not in group kvm") && Contains("usermod"));
}

}  // namespace
}  // namespace kvm
