// The timer of a local APIC: one-shot, periodic and TSC-deadline. [SDM 3A] 10.5.4
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "vmm/core/irq/local_apic_regs.h"
#include "vmm/core/time/clock.h"
#include "vmm/core/time/owed_ticks.h"

namespace vmm {

// The count runs at 1 GHz divided by the divide configuration, as KVM's does. No lock: its local
// APIC's mutex guards every call; `wake` runs on the I/O thread without it and then asks Expire().
class ApicTimer {
 public:
  // A periodic timer that is set faster than this interrupts at this interval: the I/O thread stays
  // free whatever a guest programs. The count shows the true period.
  static constexpr Nanoseconds kMinInterval{100'000};
  // Expiries that the host was late for follow by the rule of OwedTicks: at twice the rate, those
  // of the last second at most. What is not taken before the state is saved is not owed any more.
  static constexpr Nanoseconds kLongestBacklog = OwedTicks::kLongest;

  ApicTimer(const Clock& clock, TimerService& timers, std::function<void()> wake);

  void Reset();  // one-shot mode, divide by 2, stopped
  apic::TimerMode mode() const { return mode_; }
  // Changes to and from TSC-deadline mode disarm. [SDM 3A] 10.5.4.1
  void SetMode(apic::TimerMode mode);
  void SetDivide(uint32_t tdcr);  // a running count goes on at the new rate
  // Starts or (0) stops the count; ignored in TSC-deadline mode.
  void SetInitialCount(uint32_t count);
  uint32_t initial_count() const { return initial_; }
  uint32_t CurrentCount() const;

  // True: the deadline is not in the future, the timer expired at once. Ignored (false) in other
  // modes.
  [[nodiscard]] bool SetTscDeadline(uint64_t deadline);
  uint64_t tsc_deadline() const { return tsc_deadline_; }  // 0 = disarmed
  // Guest TSC = Clock::Tsc() + offset. True as with SetTscDeadline.
  [[nodiscard]] bool SetTscOffset(int64_t offset);

  // After `wake`: true if an expiry is due, which is thereby consumed; arms the next one.
  [[nodiscard]] bool Expire();

  // For the saved state: time to the next expiry of a one-shot or periodic timer, -1 = stopped.
  int64_t RemainingNs() const;
  // Mode and divide are set already.
  void Restore(uint32_t initial, int64_t remaining_ns, uint64_t tsc_deadline);

 private:
  Nanoseconds Period() const { return Nanoseconds(uint64_t{initial_} * divide_); }
  bool ArmDeadline();
  void Stop();

  const Clock& clock_;
  apic::TimerMode mode_ = apic::TimerMode::kOneShot;
  uint32_t divide_ = 2;
  uint32_t initial_ = 0;
  bool running_ = false;  // one-shot, periodic
  Nanoseconds expiry_{};  // when running_: the next; of a periodic timer the first that is owed
  uint64_t tsc_deadline_ = 0;
  int64_t tsc_offset_ = 0;
  std::unique_ptr<Timer> timer_;  // last: its destructor waits for `wake`
};

}  // namespace vmm
