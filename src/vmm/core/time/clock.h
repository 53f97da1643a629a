// Time, injected: devices see a Clock and Timers and never ask the host.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>

namespace vmm {

using Nanoseconds = std::chrono::nanoseconds;

// Who must know that a Clock stands still or goes on: timers wait for it.
class ClockListener {
 public:
  virtual ~ClockListener() = default;
  // After the clock was started, paused or resumed, on the thread that did it.
  virtual void OnClockChange() = 0;
};

// The machine's own time: starts at zero when the machine first runs, stands still while it is
// paused, never goes back. Now() from any thread.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual Nanoseconds Now() const = 0;
  // Wall-clock time for RTC and kvmclock: nanoseconds since the Unix epoch.
  virtual Nanoseconds WallTime() const = 0;
  // The guest's time-stamp counter at zero offset, and its frequency in Hz. Tsc() and Now() advance
  // together.
  virtual uint64_t Tsc() const = 0;
  virtual uint64_t tsc_hz() const = 0;

  // Does Now() advance? A clock that can be paused tells its listeners of each change. A listener
  // leaves before it is destroyed.
  virtual bool running() const { return true; }
  virtual void AddListener(ClockListener&) const {}
  virtual void RemoveListener(ClockListener&) const {}
};

// The clock of a machine, as its assembly starts and stops it.
class MachineClock : public Clock {
 public:
  // Now() begins to advance, from `at` (a restored machine goes on where it was).
  virtual void Start(Nanoseconds at = Nanoseconds(0)) = 0;
  // While it stands: Now() is `at` from here on, for a machine that is loaded. Never back.
  virtual void Set(Nanoseconds at) = 0;
  // Now() stands still until Resume(). Both do nothing when nothing changes.
  virtual void Pause() = 0;
  virtual void Resume() = 0;
};

class Timer {
 public:
  virtual ~Timer() = default;  // disarms; waits for a callback that is running on another thread
  // The callback runs once, at or soon after Clock time `deadline`. Re-arming replaces the
  // deadline. Any thread, also from inside the callback.
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
