// Time, injected: devices see a Clock and Timers and never ask the host.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>

namespace vmm {

using Nanoseconds = std::chrono::nanoseconds;

// The machine's own time: starts at zero when the machine first runs, stands still while it is
// paused, never goes back. Now() from any thread.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual Nanoseconds Now() const = 0;
  // Wall-clock time for RTC and kvmclock: nanoseconds since the Unix epoch.
  virtual Nanoseconds WallTime() const = 0;
  // The guest's time-stamp counter at zero offset, and its frequency in Hz. Tsc() and Now() advance together.
  virtual uint64_t Tsc() const = 0;
  virtual uint64_t tsc_hz() const = 0;
};

class Timer {
 public:
  virtual ~Timer() = default;  // disarms; waits for a callback that is running on another thread
  // The callback runs once, at or soon after Clock time `deadline`. Re-arming replaces the deadline. Any
  // thread, also from inside the callback.
  virtual void Arm(Nanoseconds deadline) = 0;
  virtual void Disarm() = 0;  // the callback may still be running on return
};

// Callbacks run on the I/O thread, with no lock held: a device takes its own lock inside and checks
// that the expiry is still wanted.
class TimerService {
 public:
  virtual ~TimerService() = default;
  virtual std::unique_ptr<Timer> NewTimer(std::function<void()> callback) = 0;
};

}  // namespace vmm
