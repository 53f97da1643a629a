// A debugger outside the guest, by KVM_SET_GUEST_DEBUG. [KVM API] 4.73
//
// Data and the first instructions are watched by the processor's four debug registers, which the
// guest then can't use; further software breakpoints are an INT3 in guest memory, which the guest
// can see.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <variant>
#include <vector>

#include "kvm/vcpu_fd.h"
#include "vmm/core/accel/debug.h"
#include "vmm/core/base/result.h"
#include "vmm/core/memory/guest_memory.h"
#include "vmm/core/state/cpu_state.h"

namespace kvm {

// Where all vCPUs shall stop, in KVM's terms. Changed only while none runs.
class DebugSetup {
 public:
  static constexpr unsigned kRegisters = 4;

  explicit DebugSetup(vmm::GuestMemory& memory) : memory_(memory) {}
  ~DebugSetup() { TakeOut(); }
  DebugSetup(const DebugSetup&) = delete;
  DebugSetup& operator=(const DebugSetup&) = delete;

  // kUnavailable, and nothing has changed: more than the registers can watch, reads alone, or an
  // instruction at an address that `context` does not map to RAM.
  vmm::Result<void> Set(std::span<const vmm::DebugPoint> points, const vmm::CpuState& context);

  bool uses_registers() const { return used_ > 0; }
  bool uses_memory() const { return !patches_.empty(); }
  // DR0 to DR7, as KVM wants them.
  const std::array<uint64_t, 8>& registers() const { return registers_; }
  // The point that DR `index` watches, or the one whose INT3 is at `linear`; null: none.
  const vmm::DebugPoint* InRegister(unsigned index) const;
  const vmm::DebugPoint* InMemory(uint64_t linear) const;

 private:
  struct Patch {
    vmm::DebugPoint point;
    vmm::GuestPhys place;
    uint8_t original = 0;
  };
  struct Plan {
    std::array<uint64_t, 8> registers{0, 0, 0, 0, 0, 0, 0, kDr7Fixed};
    std::array<vmm::DebugPoint, kRegisters> points;
    unsigned used = 0;
    std::vector<Patch> patches;
    bool Watch(const vmm::DebugPoint& point);
    bool Take(const vmm::DebugPoint& point, uint64_t address, uint64_t length);
  };
  static constexpr uint64_t kDr7Fixed = 0x400;
  void TakeOut();

  vmm::GuestMemory& memory_;
  std::array<uint64_t, 8> registers_{};
  std::array<vmm::DebugPoint, kRegisters> points_;
  unsigned used_ = 0;  // debug registers
  std::vector<Patch> patches_;
};

// One vCPU's share. On its own thread, or while it is not in KVM_RUN.
class GuestDebug {
 public:
  GuestDebug(VcpuFd& fd, const DebugSetup& setup) : fd_(fd), setup_(setup) {}

  void SetStep(vmm::DebugStep step) { step_ = step; }
  // Before each entry: tells KVM what has changed. 0 or -errno.
  int Apply();
  // KVM_EXIT_DEBUG: a stop of the debugger's, or nothing: it was the guest's own exception, which
  // it gets at the next entry. Or -errno.
  std::variant<vmm::DebugStop, std::monostate, int> OnExit();

 private:
  int GiveToGuest(uint32_t exception, uint64_t dr6);
  int PassBreakpoint();

  VcpuFd& fd_;
  const DebugSetup& setup_;
  vmm::DebugStep step_ = vmm::DebugStep::kOff;
  kvm_guest_debug applied_{};
  uint32_t inject_ = 0;              // KVM_GUESTDBG_INJECT_*, for the next entry
  std::optional<uint64_t> passing_;  // RIP whose breakpoint was told: once it may be passed
};

}  // namespace kvm
