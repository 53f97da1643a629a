#include "vmm/core/time/host_clock.h"

#include <time.h>

#include <algorithm>

#include "vmm/core/base/check.h"

namespace vmm {
namespace {

constexpr uint64_t kNsPerSecond = 1'000'000'000;

int64_t ReadHost(clockid_t id) {
  timespec now{};
  clock_gettime(id, &now);
  return now.tv_sec * static_cast<int64_t>(kNsPerSecond) + now.tv_nsec;
}

}  // namespace

HostClock::HostClock(TscFrequency tsc) : tsc_(tsc) {}

void HostClock::Start(Nanoseconds at) {
  {
    std::lock_guard lock(mutex_);
    word_.store(Pack(0, kChanging));
    word_.store(Pack(ReadHost(CLOCK_MONOTONIC) - at.count(), kRunning));
  }
  Tell();
}

void HostClock::Set(Nanoseconds at) {
  std::lock_guard lock(mutex_);
  const int64_t word = word_.load();
  CHECK((word & kModeMask) == kStanding && at.count() >= word >> 2);
  word_.store(Pack(at.count(), kStanding));
}

// kChanging comes first in Pause(): a reader that then still read the running word would return a
// time after the one at which the clock stops, and Now() would go back.
void HostClock::Pause() {
  {
    std::lock_guard lock(mutex_);
    const int64_t word = word_.load();
    if ((word & kModeMask) != kRunning) return;
    word_.store(Pack(0, kChanging));
    word_.store(Pack(ReadHost(CLOCK_MONOTONIC) - (word >> 2), kStanding));
  }
  Tell();
}

void HostClock::Resume() {
  {
    std::lock_guard lock(mutex_);
    const int64_t word = word_.load();
    if ((word & kModeMask) != kStanding) return;
    word_.store(Pack(ReadHost(CLOCK_MONOTONIC) - (word >> 2), kRunning));
  }
  Tell();
}

Nanoseconds HostClock::Now() const {
  while (true) {
    const int64_t word = word_.load();
    switch (word & kModeMask) {
      case kRunning: {
        const int64_t host = ReadHost(CLOCK_MONOTONIC);
        if (word_.load() == word) return Nanoseconds(host - (word >> 2));
        break;
      }
      case kStanding:
        return Nanoseconds(word >> 2);
      default:
        __builtin_ia32_pause();
    }
  }
}

Nanoseconds HostClock::WallTime() const {
  return Nanoseconds(ReadHost(CLOCK_REALTIME));
}

uint64_t HostClock::Tsc() const {
  return TicksAt(static_cast<uint64_t>(Now().count()), tsc_.hz);
}

// Whole seconds and whole gigahertz apart, so that 64 bits are enough and no division is by a
// variable: guests ask often.
uint64_t HostClock::TicksAt(uint64_t ns, uint64_t hz) {
  const uint64_t seconds = ns / kNsPerSecond, rest = ns % kNsPerSecond, slow = hz % kNsPerSecond;
  return hz / kNsPerSecond * ns + seconds * slow + rest * slow / kNsPerSecond;
}

bool HostClock::running() const {
  return (word_.load() & kModeMask) == kRunning;
}

void HostClock::AddListener(ClockListener& listener) const {
  std::lock_guard lock(listeners_mutex_);
  listeners_.push_back(&listener);
}

void HostClock::RemoveListener(ClockListener& listener) const {
  std::lock_guard lock(listeners_mutex_);
  std::erase(listeners_, &listener);
}

void HostClock::Tell() const {
  std::lock_guard lock(listeners_mutex_);
  for (ClockListener* listener : listeners_) listener->OnClockChange();
}

}  // namespace vmm
