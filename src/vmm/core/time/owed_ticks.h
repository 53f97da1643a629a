// Ticks of a periodic timer that the host was too late for.
#pragma once

#include <algorithm>
#include <cstdint>

#include "vmm/core/time/clock.h"

namespace vmm {

// A guest may count its time by its ticks, so those that a busy host missed are owed to it. They
// follow at twice the rate that the guest has set, up to a second's worth; what is older is lost.
// However fast the timer is set, ticks come at least `min_interval` apart. Not thread-safe.
class OwedTicks {
 public:
  static constexpr Nanoseconds kLongest{1'000'000'000};

  explicit OwedTicks(Nanoseconds min_interval) : min_interval_(min_interval) {}

  // `ticks` more have become due. Period 0: it is no periodic timer, one tick is all it can owe.
  void Add(int64_t ticks, Nanoseconds period) {
    const int64_t most = period.count() <= 0 ? 1 : std::max<int64_t>(1, kLongest / period);
    count_ = std::min(count_ > INT64_MAX - ticks ? INT64_MAX : count_ + ticks, most);
  }
  // Takes one if there is one and it may come.
  [[nodiscard]] bool Take(Nanoseconds now, Nanoseconds period) {
    if (count_ == 0 || now < not_before_) return false;
    --count_;
    // At twice the rate while more is owed.
    not_before_ = now + (count_ > 0 ? std::max(min_interval_, period / 2) : min_interval_);
    return true;
  }
  // The guest has set the timer anew: nothing is owed.
  void Clear() {
    count_ = 0;
    not_before_ = Nanoseconds(0);
  }

  int64_t count() const { return count_; }
  Nanoseconds not_before() const { return not_before_; }  // the next tick

 private:
  Nanoseconds min_interval_;
  int64_t count_ = 0;
  Nanoseconds not_before_{0};
};

}  // namespace vmm
