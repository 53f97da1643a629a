#include "vmm/machine/power_state.h"

#include <utility>

namespace vmm {

PowerState::Action PowerState::End(ExitCode code, std::string reason) {
  if (ended()) return Action::kGoOn;
  verdict_ = Verdict{code, std::move(reason), {}};
  return Action::kEnd;
}

PowerState::Action PowerState::OnPowerOff() {
  if (panic_seen()) return OnPanicSettled();
  return End(ExitCode::kSuccess, "the guest powered off");
}

PowerState::Action PowerState::OnDebugExit(uint32_t value) {
  if (ended()) return Action::kGoOn;
  const Action action =
      value == 0 ? End(ExitCode::kSuccess, "the guest reported success (debug-exit port)")
                 : End(ExitCode::kGuestFailure, "the guest reported failure " +
                                                    std::to_string(value) + " (debug-exit port)");
  verdict_->guest_value = value;
  return action;
}

PowerState::Action PowerState::OnResetRequest(std::string source) {
  if (ended()) return Action::kGoOn;
  if (panic_seen()) return OnPanicSettled();
  if (on_reboot_ == OnReboot::kReset) return Action::kReset;
  return End(ExitCode::kGuestReset, "the guest reset itself (" + source + ")");
}

PowerState::Action PowerState::OnTripleFault(unsigned cpu) {
  if (panic_seen()) return OnPanicSettled();
  return End(ExitCode::kTripleFault, "triple fault on vCPU " + std::to_string(cpu));
}

PowerState::Action PowerState::OnHang() {
  if (panic_seen()) return OnPanicSettled();
  return End(ExitCode::kGuestHang, "every vCPU is halted with interrupts off");
}

PowerState::Action PowerState::OnEngineFailed(unsigned cpu, std::string detail) {
  return End(ExitCode::kEngineFailed,
             "the engine failed on vCPU " + std::to_string(cpu) + ": " + std::move(detail));
}

PowerState::Action PowerState::OnLimit(Limit limit, std::string detail) {
  return End(limit == Limit::kWall ? ExitCode::kWallTimeout : ExitCode::kIdleTimeout,
             std::move(detail));
}

PowerState::Action PowerState::OnStop(std::string who) {
  return End(ExitCode::kStopped, std::move(who));
}

PowerState::Action PowerState::OnSuspended(std::string where) {
  return End(ExitCode::kSuspended, "suspended to " + std::move(where));
}

PowerState::Action PowerState::OnPanicSeen(std::string reason) {
  if (!panic_seen() && !ended()) panic_reason_ = std::move(reason);
  return Action::kGoOn;
}

PowerState::Action PowerState::OnPanicSettled() {
  if (ended() || !panic_seen()) return Action::kGoOn;
  switch (on_panic_) {
    case OnPanic::kExit:
      return End(ExitCode::kGuestPanic, *panic_reason_);
    case OnPanic::kReset:
      panic_reason_.reset();
      return Action::kReset;
    case OnPanic::kPause:
      panic_reason_.reset();
      return Action::kPause;
  }
  return Action::kGoOn;
}

}  // namespace vmm
