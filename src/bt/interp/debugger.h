// A debugger outside the guest: where it wants the processors to stop, and one processor's share in
// it. The guest's own debug registers are in debug_registers.h; neither sees the other.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "vmm/core/accel/debug.h"

namespace bt {

// Linear addresses, the same for all processors. Changed only while none runs.
class DebugPoints {
 public:
  void Set(std::span<const vmm::DebugPoint> points);

  bool any() const { return !code_.empty() || !data_.empty(); }
  bool has_code() const { return !code_.empty(); }
  bool has_data() const { return !data_.empty(); }
  // The first point that is met, or null.
  const vmm::DebugPoint* CodeAt(uint64_t linear) const;
  const vmm::DebugPoint* DataAt(uint64_t linear, uint64_t size, bool write) const;
  // A page (4 KiB) of which a fast path may not read, or write.
  bool WatchesPage(uint64_t page, bool write) const;

 private:
  std::vector<vmm::DebugPoint> code_;  // sorted by address
  std::vector<vmm::DebugPoint> data_;
};

// On the processor's own thread, or while it does not run.
class Debugger {
 public:
  explicit Debugger(const DebugPoints& points) : points_(points) {}

  void SetStep(vmm::DebugStep step) { step_ = step; }
  const DebugPoints& points() const { return points_; }
  bool active() const { return step_ != vmm::DebugStep::kOff || points_.any(); }
  bool steps() const { return step_ != vmm::DebugStep::kOff; }
  // One instruction is stepped, and nothing shall come between.
  bool holds_interrupts() const { return step_ == vmm::DebugStep::kOne; }
  // A repeated instruction must look up after each iteration: it may be stepped, or watched.
  bool looks_closely() const { return steps() || points_.has_data(); }

  // May the instruction at `linear` begin? False: a stop is due before it. A point that was told
  // once does not stop the same instruction again.
  bool MayBegin(uint64_t linear);
  // The instruction has ended; `again`: it stands before its next iteration.
  void OnInstruction(bool again);
  void OnAccess(uint64_t linear, uint64_t size, bool write);
  // An instruction, or the delivery of an event, is done.
  void OnStepEnd();
  // The instruction came to nothing: what it touched does not count.
  void OnFault() { stop_.reset(); }

  bool stop_due() const { return stop_.has_value(); }
  vmm::DebugStop TakeStop();

 private:
  const DebugPoints& points_;
  vmm::DebugStep step_ = vmm::DebugStep::kOff;
  std::optional<vmm::DebugStop> stop_;
  std::optional<uint64_t> passing_;  // the instruction whose point was told
  uint64_t current_ = 0;             // the instruction that began last
};

}  // namespace bt
