// The machine's time on a real host.
#pragma once

#include <atomic>
#include <mutex>
#include <vector>

#include "vmm/core/time/clock.h"
#include "vmm/core/time/tsc_frequency.h"

namespace vmm {

// Now() follows CLOCK_MONOTONIC, and the guest's counter is computed from Now() at the host
// counter's rate: both stand, go on and follow the host's NTP together by construction, and a host
// that is suspended, moved or that stops its own counter does not disturb them.
//
// Threads: reading from any thread without a lock; Start, Pause and Resume under a mutex.
class HostClock final : public MachineClock {
 public:
  // An engine that lets the guest read the hardware's counter gives its exact frequency; else the
  // host is asked.
  explicit HostClock(TscFrequency tsc = FindTscFrequency());

  void Start(Nanoseconds at = Nanoseconds(0)) override;
  void Set(Nanoseconds at) override;
  void Pause() override;
  void Resume() override;

  Nanoseconds Now() const override;
  Nanoseconds WallTime() const override;
  uint64_t Tsc() const override;
  uint64_t tsc_hz() const override { return tsc_.hz; }
  // Whole ticks of a counter of `hz` in `ns` nanoseconds.
  static uint64_t TicksAt(uint64_t ns, uint64_t hz);
  TscFrequency::Source tsc_source() const { return tsc_.source; }

  bool running() const override;
  void AddListener(ClockListener& listener) const override;
  void RemoveListener(ClockListener& listener) const override;

 private:
  // What Now() needs, in one word that is read at once: a signed time in nanoseconds above two bits
  // of Mode. Running: the host time at which Now() was 0; standing: Now().
  enum Mode : int64_t { kRunning = 0, kStanding = 1, kChanging = 2, kModeMask = 3 };
  static constexpr int64_t Pack(int64_t ns, Mode mode) { return ns * 4 | mode; }

  void Tell() const;

  const TscFrequency tsc_;
  std::mutex mutex_;
  std::atomic<int64_t> word_{Pack(0, kStanding)};
  mutable std::mutex listeners_mutex_;
  mutable std::vector<ClockListener*> listeners_;
};

}  // namespace vmm
