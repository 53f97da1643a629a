// Time for unit tests: it moves only when a test says so.
//
//   FakeClock clock;
//   FakeTimers timers(clock);
//   Pit8254 pit(clock, timers, irq);
//   timers.Advance(std::chrono::milliseconds(10));  // fires what falls due, in order
#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "vmm/core/time/clock.h"

namespace vmm {

// Single-threaded.
class FakeClock final : public Clock {
 public:
  explicit FakeClock(uint64_t tsc_hz = 1'000'000'000) : tsc_hz_(tsc_hz) {}

  // Moves the time without firing timers; FakeTimers::Advance() fires them.
  void Advance(Nanoseconds by) { now_ += by; }
  void AdvanceTo(Nanoseconds now) { now_ = std::max(now_, now); }
  // WallTime() at Now() = 0. The default is 2024-01-01 00:00:00 UTC.
  void SetWallStart(Nanoseconds since_epoch) { wall_start_ = since_epoch; }

  Nanoseconds Now() const override { return now_; }
  Nanoseconds WallTime() const override { return wall_start_ + now_; }
  uint64_t Tsc() const override {
    return static_cast<uint64_t>(static_cast<unsigned __int128>(now_.count()) * tsc_hz_ /
                                 1'000'000'000);
  }
  uint64_t tsc_hz() const override { return tsc_hz_; }

 private:
  const uint64_t tsc_hz_;
  Nanoseconds now_{0};
  Nanoseconds wall_start_ = std::chrono::seconds(1'704'067'200);
};

// Fires timers in the order of their deadlines, equal ones in the order of arming. Single-threaded;
// outlives its timers.
class FakeTimers final : public TimerService {
 public:
  explicit FakeTimers(FakeClock& clock) : clock_(clock) {}

  std::unique_ptr<Timer> NewTimer(std::function<void()> callback) override {
    return std::make_unique<FakeTimer>(*this, std::move(callback));
  }

  // Moves the clock on by `by`; each timer fires with the clock at its deadline.
  void Advance(Nanoseconds by) {
    const Nanoseconds end = clock_.Now() + by;
    for (FakeTimer* due; (due = First()) != nullptr && due->deadline <= end;) {
      clock_.AdvanceTo(due->deadline);
      due->armed = false;
      const auto callback = due->callback;  // may destroy its timer
      (*callback)();
    }
    clock_.AdvanceTo(end);
  }

  size_t armed_count() const {
    return static_cast<size_t>(
        std::count_if(timers_.begin(), timers_.end(), [](const auto* t) { return t->armed; }));
  }
  // Of the timer that will fire first; max() if none is armed.
  Nanoseconds next_deadline() const {
    const FakeTimer* first = First();
    return first == nullptr ? Nanoseconds::max() : first->deadline;
  }

 private:
  struct FakeTimer final : Timer {
    FakeTimer(FakeTimers& timers, std::function<void()> f)
        : owner(timers), callback(std::make_shared<std::function<void()>>(std::move(f))) {
      owner.timers_.push_back(this);
    }
    ~FakeTimer() override { std::erase(owner.timers_, this); }
    void Arm(Nanoseconds at) override {
      deadline = at;
      order = ++owner.arms_;
      armed = true;
    }
    void Disarm() override { armed = false; }

    FakeTimers& owner;
    const std::shared_ptr<std::function<void()>> callback;
    Nanoseconds deadline{};
    uint64_t order = 0;
    bool armed = false;
  };

  FakeTimer* First() const {
    FakeTimer* first = nullptr;
    for (FakeTimer* timer : timers_) {
      if (timer->armed && (first == nullptr || std::pair(timer->deadline, timer->order) <
                                                   std::pair(first->deadline, first->order))) {
        first = timer;
      }
    }
    return first;
  }

  FakeClock& clock_;
  std::vector<FakeTimer*> timers_;
  uint64_t arms_ = 0;
};

}  // namespace vmm
