#include "kvm/refusal.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>

namespace kvm {
namespace {

std::string ExtensionName(const HostFacts& facts) {
  return facts.module == "kvm_amd" ? "AMD-V" : "VT-x";
}

Explanation ExplainMissing(const HostFacts& facts) {
  const std::string extension = ExtensionName(facts);
  if (facts.cpu_extension.empty()) {
    if (facts.in_guest)
      return {"no KVM: this host is a virtual machine itself, without nested virtualization",
              fmt::format("switch on nested virtualization ({}) for this host in its hypervisor",
                          extension)};
    return {
        fmt::format("no KVM: this CPU has no {}, or the firmware has it switched off", extension),
        fmt::format("switch on {} in the firmware set-up", extension)};
  }
  if (facts.in_container && !facts.backend.empty())
    return {"no /dev/kvm in this container", "start the container with: --device /dev/kvm"};
  if (facts.backend.empty())
    return {fmt::format("no KVM: the kernel module {} is not loaded", facts.module),
            fmt::format("sudo modprobe {}", facts.module)};
  return {"no KVM: /dev/kvm is missing or dead although its module is loaded",
          "sudo udevadm trigger --action=add /sys/devices/virtual/misc/kvm"};
}

Explanation ExplainNoAccess(const HostFacts& facts) {
  constexpr unsigned kGroupReadWrite = 060;
  if (facts.root)
    return {"/dev/kvm is forbidden even to root: a container's device rules or a security module",
            "start the container with: --device /dev/kvm"};
  const bool group_may = (facts.device_mode & kGroupReadWrite) == kGroupReadWrite;
  if (!group_may || facts.device_group == "root")
    return {fmt::format("no access to /dev/kvm: it belongs to group {} with mode {:04o}, "
                        "a udev rule is missing",
                        facts.device_group, facts.device_mode),
            "echo 'KERNEL==\"kvm\", GROUP=\"kvm\", MODE=\"0660\"' | sudo tee "
            "/etc/udev/rules.d/65-kvm.rules && sudo udevadm control --reload && "
            "sudo udevadm trigger --action=add /sys/devices/virtual/misc/kvm"};
  if (facts.group_active)
    return {fmt::format("no access to /dev/kvm although group {} has it: a security module or an "
                        "access list forbids it to {}",
                        facts.device_group, facts.user),
            "getfacl /dev/kvm"};
  if (facts.user_in_group)
    return {
        fmt::format("no access to /dev/kvm: {} is in group {}, but this login is older than that",
                    facts.user, facts.device_group),
        fmt::format("newgrp {}", facts.device_group)};
  return {
      fmt::format("no access to /dev/kvm: {} is not in group {}", facts.user, facts.device_group),
      fmt::format("sudo usermod -aG {} {}, then log in again", facts.device_group, facts.user)};
}

Explanation ExplainBusy(const HostFacts& facts) {
  const std::string what = facts.module == "kvm_amd" ? "AMD-V (SVM)" : "VT-x (VMX)";
  for (const std::string& holder : facts.vmx_holders) {
    if (holder == "vboxdrv")
      return {fmt::format("KVM is busy: VirtualBox (vboxdrv) holds {}", what),
              "stop its machines, then: sudo modprobe -r vboxnetadp vboxnetflt vboxdrv"};
    if (holder == "vmmon")
      return {fmt::format("KVM is busy: VMware (vmmon) holds {}", what),
              "stop its machines, then: sudo systemctl stop vmware"};
  }
  return {fmt::format("KVM is busy: another hypervisor holds {}", what),
          "lsmod | grep -E 'vboxdrv|vmmon'"};
}

Explanation ExplainUnusable(const Refusal& refusal, const HostFacts& facts) {
  if (refusal.error == 0)
    return {fmt::format("this host's KVM lacks {}: Linux 5.10 or newer is needed", refusal.step),
            "install a newer kernel than that of: uname -r"};
  if (refusal.error == ENOMEM)
    return {fmt::format("KVM has no memory for a VM ({})", refusal.step), "free -m"};
  if (refusal.error == EMFILE || refusal.error == ENFILE)
    return {fmt::format("KVM has no file descriptor for a VM ({})", refusal.step), "ulimit -n"};
  if (refusal.error == EIO || refusal.error == EOPNOTSUPP)
    return {fmt::format("KVM can't switch on {}: the firmware has it locked ({}: {})",
                        ExtensionName(facts), refusal.step, std::strerror(refusal.error)),
            fmt::format("switch on {} in the firmware set-up", ExtensionName(facts))};
  return {fmt::format("KVM refused {}: {}", refusal.step, std::strerror(refusal.error)),
          "sudo dmesg | grep -i kvm"};
}

}  // namespace

Refusal::Kind Refusal::kind() const {
  switch (error) {
    case ENOENT:
    case ENODEV:
    case ENXIO:
      return Kind::kMissing;
    case EACCES:
    case EPERM:
      return Kind::kNoAccess;
    case EBUSY:
      return Kind::kBusy;
    default:
      return Kind::kUnusable;
  }
}

Explanation Explain(const Refusal& refusal, const HostFacts& facts) {
  switch (refusal.kind()) {
    case Refusal::Kind::kMissing:
      return ExplainMissing(facts);
    case Refusal::Kind::kNoAccess:
      return ExplainNoAccess(facts);
    case Refusal::Kind::kBusy:
      return ExplainBusy(facts);
    case Refusal::Kind::kUnusable:
      break;
  }
  return ExplainUnusable(refusal, facts);
}

vmm::Error ToError(const Refusal& refusal, const HostFacts& facts) {
  const Explanation why = Explain(refusal, facts);
  std::string text = why.reason;
  if (!why.remedy.empty()) text += fmt::format(" (to change that: {})", why.remedy);
  return vmm::Error{vmm::ExitCode::kEngineUnavailable, std::move(text)};
}

}  // namespace kvm
