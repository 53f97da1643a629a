// Time that is the number of instructions which the machine has executed: two runs from the same
// state with the same inputs are alike to the last instruction, however slow or busy the host is.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "vmm/core/accel/instruction_schedule.h"
#include "vmm/core/host/timer_heap.h"
#include "vmm/core/time/clock.h"

namespace vmm {

// Something that came from outside the machine: what the user typed, the power button.
struct MachineInput {
  Nanoseconds at{0};    // CountedTime when it reached the guest
  unsigned source = 0;  // the assembly's own numbering
  std::string bytes;
};

// One vCPU runs at a time, for at most kTurn instructions; one instruction takes one nanosecond.
// When all sleep, time jumps to the next timer. Timers expire and inputs are applied between two
// turns, on the thread of the vCPU whose turn begins, exactly at their nanosecond.
//
// Threads: as MachineClock, TimerService and InstructionSchedule say, but that callbacks of timers
// run on vCPU threads. Lock: mutex_ ranks last (docs/locks.md): callbacks run without it, and what
// a CountedVcpu is asked under it takes no lock.
class CountedTime final : public MachineClock, public TimerService, public InstructionSchedule {
 public:
  static constexpr uint64_t kTurn = 10'000;
  static constexpr uint64_t kHz = 1'000'000'000;  // of the time-stamp counter
  // Wall-clock time at zero: 2026-01-01 00:00 UTC.
  static constexpr Nanoseconds kEpoch = std::chrono::seconds(1'767'225'600);

  using InputHandler = std::function<void(const MachineInput&)>;
  // `position`: instructions executed by all vCPUs together.
  using StepHandler = std::function<void(uint64_t position)>;

  explicit CountedTime(unsigned cpu_count);
  ~CountedTime() override;

  // --- Before the machine runs ---
  // Called for each input, at its time.
  void OnInput(InputHandler handler) { on_input_ = std::move(handler); }
  // Called between two instructions whenever `interval` more have been executed; all vCPUs stand
  // still meanwhile, and only this thread may look at them.
  void OnStep(uint64_t interval, StepHandler handler);
  // Inputs of an earlier run, in their order; those that are posted are ignored from here on.
  void Replay(std::vector<MachineInput> inputs);

  // Any thread: the guest gets it when the turn under way ends; `at` is filled in.
  void Post(unsigned source, std::string bytes);
  // What `source` posted and the guest has not got yet. Any thread.
  std::string Posted(unsigned source) const;

  // Instructions executed so far. On a vCPU's thread or with all parked.
  uint64_t position() const { return position_; }

  // Clock. The machine's time stands still by itself when no vCPU runs.
  Nanoseconds Now() const override;
  Nanoseconds WallTime() const override { return kEpoch + Now(); }
  uint64_t Tsc() const override { return static_cast<uint64_t>(Now().count()); }
  uint64_t tsc_hz() const override { return kHz; }
  void Start(Nanoseconds at) override { Set(at); }
  void Set(Nanoseconds at) override;
  void Pause() override {}
  void Resume() override {}

  std::unique_ptr<Timer> NewTimer(std::function<void()> callback) override;

  void SetVcpu(unsigned cpu, CountedVcpu* vcpu) override;
  uint64_t BeginTurn(unsigned cpu) override;
  void EndTurn(unsigned cpu, bool asleep) override;
  void Interrupt(unsigned cpu) override;

 private:
  class CountedTimer;
  struct Seat {
    CountedVcpu* vcpu = nullptr;
    bool asleep = false, interrupted = false;
  };

  bool Awake(const Seat& seat) const {
    return seat.vcpu && (!seat.asleep || seat.vcpu->HasEvents());
  }
  // The next that is awake after `cpu`, itself last; `cpu` when all sleep.
  unsigned NextAwake(unsigned cpu) const;
  // Nanoseconds to the next timer or replayed input; -1: there is none.
  int64_t ToNextEvent() const;
  // Runs what is due now; the lock is given up during each callback.
  void RunDue(std::unique_lock<std::mutex>& lock);
  bool RunOneDue(std::unique_lock<std::mutex>& lock);
  void GiveTurn(unsigned cpu);
  void Advance(uint64_t ns) { now_.store(now_.load() + static_cast<int64_t>(ns)); }

  InputHandler on_input_;
  StepHandler on_step_;
  uint64_t step_interval_ = 0;

  mutable std::mutex mutex_;
  std::condition_variable changed_;     // a turn, an interruption, an input
  std::condition_variable timer_done_;  // for those who destroy a timer
  std::vector<Seat> seats_;
  unsigned turn_ = 0;  // whose it is
  uint64_t left_ = 0;  // of the turn, in instructions; 0: a new one begins
  uint64_t position_ = 0;
  int64_t last_point_ = -1;  // now_ when what was due was last run
  TimerHeap timers_;
  const void* running_timer_ = nullptr;
  std::thread::id callback_thread_;
  std::deque<MachineInput> posted_, replayed_;
  bool replaying_ = false;

  // Who executes. now_ is the time when it began; the thread itself knows the rest.
  std::atomic<int64_t> now_{0};
  std::atomic<std::thread::id> runner_thread_{};
  CountedVcpu* runner_ = nullptr;
  uint64_t runner_began_ = 0;   // its Retired() then
  uint64_t runner_budget_ = 0;  // what it was given
};

}  // namespace vmm
