#include "vmm/machine/hang_watch.h"

#include <algorithm>
#include <utility>

namespace vmm {
namespace {

constexpr uint64_t kRflagsIf = 1u << 9;

bool Dead(const CpuState& state) {
  if (state.activity == Activity::kWaitForSipi) return true;
  return state.activity == Activity::kHalted && !(state.rflags & kRflagsIf) &&
         !state.events.nmi_pending && !state.events.exception_pending &&
         !state.events.interrupt_pending;
}

}  // namespace

Result<void> HangWatch::Start() {
  auto timer = HostTimer::Create(loop_, [this] { OnTimer(); });
  if (!timer) return tl::unexpected(std::move(timer.error()));
  timer_ = std::move(*timer);
  Reset();
  return {};
}

void HangWatch::Reset() {
  told_ = false;
  dead_looks_ = 0;
  interval_ = first_;
  Arm(interval_);
}

void HangWatch::Arm(std::chrono::milliseconds delay) {
  timer_->Start(delay);
}

void HangWatch::OnHalted() {
  if (dead_looks_ > 0) return;
  Arm(std::chrono::milliseconds(1));
  told_ = true;
}

void HangWatch::OnTimer() {
  if (vcpus_.held()) {  // paused: nothing can be said
    Arm(interval_);
    return;
  }
  const auto now = vcpus_.CpuTime();
  const bool idle = now - std::exchange(cpu_time_, now) < kIdleCpuTime;
  const bool look = idle || std::exchange(told_, false) || dead_looks_ > 0;
  dead_looks_ = look && AllDead() ? dead_looks_ + 1 : 0;
  if (dead_looks_ >= 2) {
    on_hang_();
  } else if (dead_looks_ == 1) {
    // An INIT or SIPI that was under way at the first look has arrived by the second.
    Arm(kConfirm);
  } else {
    interval_ = idle ? std::min(interval_ * 2, rarest_) : first_;
    Arm(interval_);
  }
}

bool HangWatch::AllDead() {
  bool dead = true;
  CpuState state;
  vcpus_.Hold();
  vcpus_.WaitParked();
  for (unsigned id = 0; id < vcpus_.size() && dead; ++id) {
    vcpus_.Call(id, [&](Vcpu& vcpu) { dead = vcpu.Save(state).has_value() && Dead(state); });
  }
  vcpus_.Release();
  return dead;
}

}  // namespace vmm
