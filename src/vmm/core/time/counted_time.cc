#include "vmm/core/time/counted_time.h"

#include <algorithm>

#include "vmm/core/base/check.h"

namespace vmm {

class CountedTime::CountedTimer final : public Timer, public TimerNode {
 public:
  CountedTimer(CountedTime& time, std::function<void()> callback)
      : time_(time), callback_(std::move(callback)) {}

  ~CountedTimer() override {
    std::unique_lock lock(time_.mutex_);
    time_.timers_.Remove(*this);
    time_.timer_done_.wait(lock, [this] {
      return time_.running_timer_ != this || time_.callback_thread_ == std::this_thread::get_id();
    });
  }

  void Arm(Nanoseconds deadline) override {
    std::lock_guard lock(time_.mutex_);
    time_.timers_.Set(*this, deadline);
    // The vCPU that runs may have been given more than is left until now.
    if (time_.runner_thread_.load() != std::this_thread::get_id()) return;
    const int64_t end = time_.now_.load() + static_cast<int64_t>(time_.runner_budget_);
    if (deadline.count() < end) time_.runner_->ShortenTurn();
  }

  void Disarm() override {
    std::lock_guard lock(time_.mutex_);
    time_.timers_.Remove(*this);
  }

  void Expire() const { callback_(); }

 private:
  CountedTime& time_;
  const std::function<void()> callback_;
};

CountedTime::CountedTime(unsigned cpu_count) : seats_(cpu_count) {}

CountedTime::~CountedTime() {
  CHECK(timers_.empty());
}

void CountedTime::OnStep(uint64_t interval, StepHandler handler) {
  CHECK(interval > 0);
  step_interval_ = interval;
  on_step_ = std::move(handler);
}

void CountedTime::Replay(std::vector<MachineInput> inputs) {
  replaying_ = true;
  replayed_.assign(std::make_move_iterator(inputs.begin()), std::make_move_iterator(inputs.end()));
}

void CountedTime::Post(unsigned source, std::string bytes) {
  std::lock_guard lock(mutex_);
  if (replaying_) return;
  posted_.push_back({Nanoseconds(0), source, std::move(bytes)});
  changed_.notify_all();
}

std::string CountedTime::Posted(unsigned source) const {
  std::lock_guard lock(mutex_);
  std::string all;
  for (const MachineInput& input : posted_) {
    if (input.source == source) all += input.bytes;
  }
  return all;
}

Nanoseconds CountedTime::Now() const {
  int64_t now = now_.load();
  if (runner_thread_.load() == std::this_thread::get_id()) {
    now += static_cast<int64_t>(runner_->Retired() - runner_began_);
  }
  return Nanoseconds(now);
}

void CountedTime::Set(Nanoseconds at) {
  now_.store(at.count());
}

std::unique_ptr<Timer> CountedTime::NewTimer(std::function<void()> callback) {
  return std::make_unique<CountedTimer>(*this, std::move(callback));
}

void CountedTime::SetVcpu(unsigned cpu, CountedVcpu* vcpu) {
  std::lock_guard lock(mutex_);
  CHECK(cpu < seats_.size());
  seats_[cpu].vcpu = vcpu;
}

void CountedTime::Interrupt(unsigned cpu) {
  std::lock_guard lock(mutex_);
  seats_[cpu].interrupted = true;
  changed_.notify_all();
}

uint64_t CountedTime::BeginTurn(unsigned cpu) {
  std::unique_lock lock(mutex_);
  Seat& seat = seats_[cpu];
  for (;;) {
    if (seat.interrupted) {
      seat.interrupted = false;
      return 0;
    }
    if (turn_ != cpu) {
      changed_.wait(lock);
      continue;
    }
    RunDue(lock);
    if (seat.interrupted) continue;  // by what was due: a timer may stop the machine
    if (Awake(seat)) break;
    if (const unsigned next = NextAwake(cpu); next != cpu) {
      GiveTurn(next);
    } else if (const int64_t idle = ToNextEvent(); idle >= 0) {
      Advance(static_cast<uint64_t>(idle));
    } else if (posted_.empty()) {
      changed_.wait(lock);
    } else {
      Advance(1);
    }
  }
  seat.asleep = false;
  if (left_ == 0) left_ = kTurn;
  uint64_t budget = left_;
  if (const int64_t event = ToNextEvent(); event >= 0) {
    budget = std::min(budget, static_cast<uint64_t>(event));
  }
  if (step_interval_) budget = std::min(budget, step_interval_ - position_ % step_interval_);
  CHECK(budget > 0);
  runner_ = seat.vcpu;
  runner_began_ = runner_->Retired();
  runner_budget_ = budget;
  runner_thread_.store(std::this_thread::get_id());
  return budget;
}

void CountedTime::EndTurn(unsigned cpu, bool asleep) {
  std::unique_lock lock(mutex_);
  CHECK(runner_ && turn_ == cpu);
  const uint64_t executed = runner_->Retired() - runner_began_;
  CHECK(executed <= runner_budget_);
  runner_ = nullptr;
  runner_thread_.store({});
  position_ += executed;
  left_ -= executed;
  Advance(executed);
  if (step_interval_ && executed && position_ % step_interval_ == 0) {
    lock.unlock();
    on_step_(position_);  // the turn is still ours: nobody else runs
    lock.lock();
  }
  if (asleep) {
    seats_[cpu].asleep = true;
    left_ = 0;
  }
  if (left_ == 0) GiveTurn(NextAwake(cpu));
}

unsigned CountedTime::NextAwake(unsigned cpu) const {
  const auto count = static_cast<unsigned>(seats_.size());
  for (unsigned i = 1; i < count; ++i) {
    const unsigned other = (cpu + i) % count;
    if (Awake(seats_[other])) return other;
  }
  return cpu;
}

void CountedTime::GiveTurn(unsigned cpu) {
  if (turn_ == cpu) return;
  turn_ = cpu;
  changed_.notify_all();
}

int64_t CountedTime::ToNextEvent() const {
  int64_t at = INT64_MAX;
  if (!timers_.empty()) at = timers_.first()->deadline.count();
  if (!replayed_.empty()) at = std::min(at, replayed_.front().at.count());
  return at == INT64_MAX ? -1 : std::max<int64_t>(at - now_.load(), 0);
}

void CountedTime::RunDue(std::unique_lock<std::mutex>& lock) {
  while (RunOneDue(lock)) {
  }
  last_point_ = now_.load();
}

bool CountedTime::RunOneDue(std::unique_lock<std::mutex>& lock) {
  const Nanoseconds now(now_.load());
  if (!timers_.empty() && timers_.first()->deadline <= now) {
    auto* timer = static_cast<CountedTimer*>(timers_.first());
    timers_.Remove(*timer);
    running_timer_ = timer;
    callback_thread_ = std::this_thread::get_id();
    lock.unlock();
    timer->Expire();
    lock.lock();
    running_timer_ = nullptr;
    timer_done_.notify_all();
    return true;
  }
  std::deque<MachineInput>& inputs = replaying_ ? replayed_ : posted_;
  if (inputs.empty() || inputs.front().at > now) return false;
  // Vcpus that sleep are passed over in no time, so one nanosecond may see several of them begin a
  // turn. Inputs come with the first: their time says all about when.
  if (!replaying_ && now.count() == last_point_) return false;
  MachineInput input = std::move(inputs.front());
  inputs.pop_front();
  input.at = now;
  lock.unlock();
  on_input_(input);
  lock.lock();
  return true;
}

}  // namespace vmm
