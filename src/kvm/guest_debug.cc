#include "kvm/guest_debug.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "vmm/core/state/linear_memory.h"

namespace kvm {

using vmm::DebugPoint;
using vmm::DebugStep;
using vmm::DebugStop;
using Kind = vmm::DebugPoint::Kind;

namespace {

constexpr uint8_t kInt3 = 0xcc;
constexpr uint32_t kBreakpointException = 3;  // else it is #DB
constexpr uint64_t kDr6Single = 1 << 14, kDr6Known = 0xe00f;
constexpr uint64_t kFlagRf = 1 << 16;

tl::unexpected<vmm::Error> No(std::string why) {
  return vmm::Fail(vmm::ExitCode::kUnavailable, std::move(why));
}

}  // namespace

// ---- Where to stop

// One piece of at most eight bytes, aligned to its length. [SDM 3B] 17.2.4, 17.2.5
bool DebugSetup::Plan::Take(const DebugPoint& point, uint64_t address, uint64_t length) {
  if (used == kRegisters) return false;
  const uint64_t condition = point.kind == Kind::kWrite ? 1 : point.kind == Kind::kAccess ? 3 : 0;
  const uint64_t size = length == 8 ? 2 : length - 1;
  registers[used] = address;
  registers[7] |= uint64_t{2} << (2 * used) | (condition | size << 2) << (16 + 4 * used);
  points[used++] = point;
  return true;
}

bool DebugSetup::Plan::Watch(const DebugPoint& point) {
  if (!point.is_data()) return Take(point, point.address.value, 1);
  uint64_t address = point.address.value;
  for (uint64_t left = point.length; left > 0;) {
    const uint64_t aligned = address == 0 ? 8 : address & -address;
    const uint64_t size = std::min({std::bit_floor(left), aligned, uint64_t{8}});
    if (!Take(point, address, size)) return false;
    address += size;
    left -= size;
  }
  return true;
}

vmm::Result<void> DebugSetup::Set(std::span<const DebugPoint> points,
                                  const vmm::CpuState& context) {
  Plan plan;
  for (const DebugPoint& point : points) {
    if (point.kind == Kind::kRead) return No("the processor can't watch reads alone");
    if (point.kind != Kind::kSoftware && !plan.Watch(point)) {
      return No("the processor has four debug registers, and no more");
    }
  }
  for (const DebugPoint& point : points) {
    if (point.kind != Kind::kSoftware || plan.Take(point, point.address.value, 1)) continue;
    const auto place = TranslateLinear(context, memory_, point.address);
    if (!place || memory_.Host(*place, 1) == nullptr) return No("there is no memory there");
    plan.patches.push_back({point, *place, 0});
  }
  TakeOut();
  for (Patch& patch : plan.patches) {
    uint8_t* const byte = memory_.Host(patch.place, 1);
    patch.original = std::exchange(*byte, kInt3);
  }
  registers_ = plan.registers;
  points_ = plan.points;
  used_ = plan.used;
  patches_ = std::move(plan.patches);
  return {};
}

// In reverse: two of them may share a byte.
void DebugSetup::TakeOut() {
  for (; !patches_.empty(); patches_.pop_back()) {
    const Patch& patch = patches_.back();
    uint8_t* const byte = memory_.Host(patch.place, 1);
    if (*byte == kInt3) *byte = patch.original;  // else the guest has put something else there
  }
}

const DebugPoint* DebugSetup::InRegister(unsigned index) const {
  return index < used_ ? &points_[index] : nullptr;
}

const DebugPoint* DebugSetup::InMemory(uint64_t linear) const {
  const auto found = std::ranges::find_if(
      patches_, [&](const Patch& patch) { return patch.point.address.value == linear; });
  return found == patches_.end() ? nullptr : &found->point;
}

// ---- One vCPU

int GuestDebug::Apply() {
  if (passing_) {
    if (const int result = PassBreakpoint(); result < 0) return result;
  }
  kvm_guest_debug wanted{};
  if (step_ != DebugStep::kOff) {
    wanted.control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP;
    if (step_ == DebugStep::kOne && fd_.host().capabilities().debug_blocks_interrupts) {
      wanted.control |= KVM_GUESTDBG_BLOCKIRQ;
    }
  }
  if (setup_.uses_registers()) {
    wanted.control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP;
    std::ranges::copy(setup_.registers(), wanted.arch.debugreg);
  }
  if (setup_.uses_memory()) wanted.control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP;
  if (inject_ == 0 && std::memcmp(&wanted, &applied_, sizeof wanted) == 0) return 0;
  applied_ = wanted;
  wanted.control |= std::exchange(inject_, 0);
  return fd_.Ioctl(KVM_SET_GUEST_DEBUG, &wanted);
}

// RF hides instruction breakpoints from one instruction. [SDM 3B] 17.3.1.1
int GuestDebug::PassBreakpoint() {
  const uint64_t rip = *std::exchange(passing_, std::nullopt);
  kvm_regs regs{};
  if (const int result = fd_.Ioctl(KVM_GET_REGS, &regs); result < 0) return result;
  if (regs.rip != rip) return 0;
  regs.rflags |= kFlagRf;
  return fd_.Ioctl(KVM_SET_REGS, &regs);
}

std::variant<DebugStop, std::monostate, int> GuestDebug::OnExit() {
  const kvm_debug_exit_arch& exit = fd_.run().debug.arch;
  if (exit.exception == kBreakpointException) {
    if (const DebugPoint* point = setup_.InMemory(exit.pc)) {
      return DebugStop{DebugStop::Reason::kPoint, *point};
    }
  } else {
    for (unsigned i = 0; i < DebugSetup::kRegisters; ++i) {
      const DebugPoint* const point = setup_.InRegister(i);
      if (point == nullptr || !(exit.dr6 >> i & 1)) continue;
      if (!point->is_data()) {
        kvm_regs regs{};
        if (const int result = fd_.Ioctl(KVM_GET_REGS, &regs); result < 0) return result;
        passing_ = regs.rip;
      }
      return DebugStop{DebugStop::Reason::kPoint, *point};
    }
    if (step_ != DebugStep::kOff && (exit.dr6 & kDr6Single)) return DebugStop{};
  }
  if (const int result = GiveToGuest(exit.exception, exit.dr6); result < 0) return result;
  return std::monostate{};
}

// KVM tells of every #DB and #BP while it debugs; those that the guest made belong to it.
int GuestDebug::GiveToGuest(uint32_t exception, uint64_t dr6) {
  if (exception == kBreakpointException) {
    inject_ = KVM_GUESTDBG_INJECT_BP;
    return 0;
  }
  inject_ = KVM_GUESTDBG_INJECT_DB;
  kvm_debugregs registers{};
  if (const int result = fd_.Ioctl(KVM_GET_DEBUGREGS, &registers); result < 0) return result;
  registers.dr6 |= dr6 & kDr6Known;
  return fd_.Ioctl(KVM_SET_DEBUGREGS, &registers);
}

}  // namespace kvm
