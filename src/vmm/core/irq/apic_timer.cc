#include "vmm/core/irq/apic_timer.h"

#include <algorithm>
#include <utility>

namespace vmm {
namespace {

using apic::TimerMode;

// Far enough that no one waits for it, near enough that sums do not overflow.
constexpr Nanoseconds kFarAway = std::chrono::hours(24 * 365);

// Divide configuration: bits 3, 1, 0 select 2, 4, 8 .. 128, 1. [SDM 3A] figure 10-10
constexpr uint32_t Divisor(uint32_t tdcr) {
  const uint32_t select = (tdcr >> 1 & 4) | (tdcr & 3);
  return 1u << ((select + 1) & 7);
}

}  // namespace

ApicTimer::ApicTimer(const Clock& clock, TimerService& timers, std::function<void()> wake)
    : clock_(clock), timer_(timers.NewTimer(std::move(wake))) {}

void ApicTimer::Reset() {
  Stop();
  mode_ = TimerMode::kOneShot;
  divide_ = Divisor(0);
}

void ApicTimer::Stop() {
  timer_->Disarm();
  running_ = false;
  initial_ = 0;
  tsc_deadline_ = 0;
}

void ApicTimer::SetMode(TimerMode mode) {
  if ((mode == TimerMode::kTscDeadline) != (mode_ == TimerMode::kTscDeadline)) Stop();
  mode_ = mode;
}

void ApicTimer::SetDivide(uint32_t tdcr) {
  const uint32_t count = CurrentCount();
  divide_ = Divisor(tdcr);
  if (!running_) return;
  expiry_ = clock_.Now() + Nanoseconds(uint64_t{count} * divide_);
  timer_->Arm(expiry_);
}

void ApicTimer::SetInitialCount(uint32_t count) {
  if (mode_ == TimerMode::kTscDeadline) return;
  initial_ = count;
  running_ = count != 0;
  if (!running_) return timer_->Disarm();
  const Nanoseconds now = clock_.Now();
  expiry_ = now + Period();
  timer_->Arm(expiry_);
}

uint32_t ApicTimer::CurrentCount() const {
  if (!running_) return 0;
  Nanoseconds remaining = expiry_ - clock_.Now();
  if (remaining.count() <= 0) {
    if (mode_ != TimerMode::kPeriodic) return 0;
    remaining = Period() - (-remaining) % Period();
  }
  return static_cast<uint32_t>((remaining.count() + divide_ - 1) / divide_);
}

bool ApicTimer::SetTscDeadline(uint64_t deadline) {
  if (mode_ != TimerMode::kTscDeadline) return false;
  tsc_deadline_ = deadline;
  return ArmDeadline();
}

bool ApicTimer::SetTscOffset(int64_t offset) {
  tsc_offset_ = offset;
  return mode_ == TimerMode::kTscDeadline && ArmDeadline();
}

// True if the deadline has come, which disarms it. [SDM 3A] 10.5.4.1
bool ApicTimer::ArmDeadline() {
  if (tsc_deadline_ == 0) {
    timer_->Disarm();
    return false;
  }
  const uint64_t tsc = clock_.Tsc() + static_cast<uint64_t>(tsc_offset_);
  if (tsc_deadline_ <= tsc) {
    timer_->Disarm();
    tsc_deadline_ = 0;
    return true;
  }
  using Wide = unsigned __int128;
  const Wide hz = clock_.tsc_hz();
  const Wide ns = (Wide{tsc_deadline_ - tsc} * 1'000'000'000 + hz - 1) / hz;
  const Wide limit = static_cast<uint64_t>(kFarAway.count());
  timer_->Arm(clock_.Now() + Nanoseconds(static_cast<int64_t>(std::min(ns, limit))));
  return false;
}

bool ApicTimer::Expire() {
  if (mode_ == TimerMode::kTscDeadline) return ArmDeadline();
  if (!running_) return false;
  const Nanoseconds now = clock_.Now();
  if (now < expiry_) {
    timer_->Arm(expiry_);
    return false;
  }
  if (mode_ != TimerMode::kPeriodic) {
    running_ = false;
    return true;
  }
  expiry_ += Period();
  if (const Nanoseconds oldest = now - kLongestBacklog; expiry_ < oldest) {
    expiry_ += Period() * ((oldest - expiry_ + Period() - Nanoseconds(1)) / Period());
  }
  // While more is owed, at twice the rate.
  const bool late = expiry_ <= now;
  timer_->Arm(
      std::max(expiry_, now + (late ? std::max(kMinInterval, Period() / 2) : kMinInterval)));
  return true;
}

int64_t ApicTimer::RemainingNs() const {
  if (!running_) return -1;
  const Nanoseconds remaining = expiry_ - clock_.Now();
  return std::max<int64_t>(remaining.count(), 0);
}

void ApicTimer::Restore(uint32_t initial, int64_t remaining_ns, uint64_t tsc_deadline) {
  timer_->Disarm();
  initial_ = initial;
  running_ = remaining_ns >= 0;
  tsc_deadline_ = tsc_deadline;
  if (running_) expiry_ = clock_.Now() + Nanoseconds(remaining_ns);
  // An expiry that is due goes the ordinary way, through `wake`.
  if (running_) timer_->Arm(expiry_);
  if (tsc_deadline_ != 0) timer_->Arm(clock_.Now());
}

}  // namespace vmm
