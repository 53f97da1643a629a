// A vCPU without an engine: it takes its steps from a script, so that every verdict, reset and race
// of the machine can be provoked. The script is a function that gets the processor and returns what
// Run() shall return, or nothing to go on.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>

#include "vmm/core/accel/accelerator.h"

namespace vmm::test {

class FakeVcpu final : public Vcpu {
 public:
  // Called again and again on the vCPU's thread.
  using Step = std::function<std::optional<RunResult>(FakeVcpu&)>;

  FakeVcpu(unsigned id, Step step) : id_(id), step_(std::move(step)) {}

  RunResult Run() override {
    for (;;) {
      {
        std::lock_guard lock(mutex_);
        if (kicked_) {
          kicked_ = false;
          return {};
        }
      }
      if (halted_told_) {
        SleepUntilKicked();
        continue;
      }
      if (auto result = step_(*this)) {
        halted_told_ = result->exit == RunExit::kHalted;
        return *result;
      }
    }
  }
  void Kick() override {
    std::lock_guard lock(mutex_);
    kicked_ = true;
    ++kicks_;
    wake_.notify_all();
  }
  Result<void> Save(CpuState& state) override {
    state = state_;
    if (halted_told_) {
      state.activity = Activity::kHalted;
      state.rflags &= ~uint64_t{0x200};
    }
    return {};
  }
  Result<void> Load(const CpuState& state) override {
    state_ = state;
    halted_told_ = false;
    ++loads_;
    return {};
  }
  void SetDebugStep(DebugStep step) override { debug_step_ = step; }

  // For scripts: sleeps as a processor in HLT does, until Kick().
  void SleepUntilKicked() {
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [this] { return kicked_; });
  }

  unsigned id() const { return id_; }
  unsigned loads() const { return loads_; }
  CpuState& cpu_state() { return state_; }
  DebugStep debug_step() const { return debug_step_; }

 private:
  const unsigned id_;
  const Step step_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool kicked_ = false;
  unsigned kicks_ = 0;
  bool halted_told_ = false;
  unsigned loads_ = 0;
  CpuState state_;
  DebugStep debug_step_ = DebugStep::kOff;
};

}  // namespace vmm::test
