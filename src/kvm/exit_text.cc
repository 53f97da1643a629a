#include "kvm/exit_text.h"

#include <fmt/format.h>

#include <algorithm>

namespace kvm {
namespace {

// "at cs:rip 0010:ffffffff81000000 (long mode, kernel)"; empty when KVM refuses the registers.
std::string Where(const VcpuFd& vcpu) {
  kvm_regs regs{};
  kvm_sregs sregs{};
  if (vcpu.Ioctl(KVM_GET_REGS, &regs) < 0 || vcpu.Ioctl(KVM_GET_SREGS, &sregs) < 0) return "";
  constexpr uint64_t kPe = 1, kLma = 1 << 10;
  const char* mode = "real mode";
  if (sregs.cr0 & kPe) mode = "protected mode";
  if ((sregs.efer & kLma) != 0) mode = sregs.cs.l ? "long mode" : "compatibility mode";
  return fmt::format(" at {:04x}:{:x} ({}, {})", sregs.cs.selector, uint64_t{regs.rip}, mode,
                     (sregs.ss.dpl & 3) == 3 ? "user" : "kernel");
}

const char* SuberrorName(uint32_t suberror) {
  switch (suberror) {
    case KVM_INTERNAL_ERROR_EMULATION:
      return "it can't emulate an instruction";
    case KVM_INTERNAL_ERROR_SIMUL_EX:
      return "simultaneous exceptions";
    case KVM_INTERNAL_ERROR_DELIVERY_EV:
      return "an exit while an event was being delivered";
    case KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON:
      return "an exit that it does not know";
    default:
      return "unknown suberror";
  }
}

}  // namespace

std::string DescribeInternalError(const VcpuFd& vcpu) {
  const kvm_run& run = vcpu.run();
  const uint32_t suberror = run.internal.suberror;
  std::string text = fmt::format("KVM internal error {}: {}", suberror, SuberrorName(suberror));
  text += Where(vcpu);
  const auto& failure = run.emulation_failure;
  // The flags are the first of the data, the bytes the next two. [KVM API] 5, emulation_failure
  if (suberror == KVM_INTERNAL_ERROR_EMULATION && failure.ndata >= 3 &&
      (failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES)) {
    text += ", bytes";
    const unsigned size = std::min<unsigned>(failure.insn_size, sizeof failure.insn_bytes);
    for (unsigned i = 0; i < size; ++i) text += fmt::format(" {:02x}", failure.insn_bytes[i]);
  } else {
    const unsigned count = std::min<unsigned>(run.internal.ndata, 16);
    for (unsigned i = 0; i < count; ++i)
      text += fmt::format("{}{:#x}", i == 0 ? ", data " : " ", uint64_t{run.internal.data[i]});
  }
  return text;
}

std::string DescribeFailEntry(const VcpuFd& vcpu) {
  const kvm_run& run = vcpu.run();
  // Bit 31: a VM-entry failure; 33 = the guest's state is invalid. [SDM 3C] appendix C
  const uint64_t reason = run.fail_entry.hardware_entry_failure_reason;
  return fmt::format("the CPU refused to enter the guest (reason {:#x}{}){}", reason,
                     (reason & 0xffff) == 33 ? ": invalid guest state" : "", Where(vcpu));
}

std::string DescribeUnknownExit(const VcpuFd& vcpu) {
  const kvm_run& run = vcpu.run();
  if (run.exit_reason == KVM_EXIT_UNKNOWN)
    return fmt::format("KVM does not know hardware exit {:#x}{}",
                       uint64_t{run.hw.hardware_exit_reason}, Where(vcpu));
  return fmt::format("KVM exit {} is not known to vmm{}", run.exit_reason, Where(vcpu));
}

}  // namespace kvm
