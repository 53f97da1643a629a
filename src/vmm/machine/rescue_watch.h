// Counts the instructions that have to be executed for an engine, and says when they are too many.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>

#include "vmm/core/accel/instruction_rescuer.h"

namespace vmm {

// A rescue costs what thousands of instructions cost, so an engine that needs so many a second is
// slower than the one that rescues it. Threads: as InstructionRescuer.
class RescueWatch final : public InstructionRescuer {
 public:
  static constexpr unsigned kTooMany = 64;
  static constexpr std::chrono::milliseconds kWithin{1000};
  using Now = std::chrono::steady_clock::time_point (*)();

  // `on_too_many` is called once a window, on a vCPU's thread with no lock held.
  RescueWatch(std::unique_ptr<InstructionRescuer> inner, std::function<void()> on_too_many,
              Now now = std::chrono::steady_clock::now);

  Result<Rescue> Finish(unsigned cpu, CpuState& state) override;

 private:
  bool TooMany();

  const std::unique_ptr<InstructionRescuer> inner_;
  const std::function<void()> on_too_many_;
  const Now now_;
  std::mutex mutex_;                              // leaf
  std::chrono::steady_clock::time_point window_;  // guarded by mutex_: its begin
  unsigned count_ = 0;                            // guarded by mutex_: in it
};

}  // namespace vmm
