// What a debugger's session needs of the machine. The assembly implements it (machine/debugger.h),
// a test fakes it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/core/accel/debug.h"
#include "vmm/core/base/result.h"
#include "vmm/core/state/cpu_state.h"

namespace vmm::gdb {

// How one processor goes on.
struct Motion {
  enum class Kind : uint8_t { kStay, kRun, kStep, kStepRange };
  Kind kind = Kind::kStay;
  uint64_t range_start = 0, range_end = 0;  // kStepRange: steps while RIP is in [start, end)
};

// Why the machine stands still again.
struct StopEvent {
  enum class Cause : uint8_t {
    kAsked,        // Interrupt(), or a debugger came
    kStep,         // the step is done
    kPoint,        // `point` was met
    kTripleFault,  // the processor met one; when it goes on, the machine ends
  };
  Cause cause = Cause::kAsked;
  unsigned cpu = 0;
  DebugPoint point{};
};

// All on the I/O thread. Everything but Interrupt() and Kill() only while the machine stands still.
class Target {
 public:
  virtual ~Target() = default;
  virtual unsigned cpu_count() const = 0;

  // The state as of the last stop, and as it shall be from now on.
  virtual Result<void> ReadState(unsigned cpu, CpuState& state) = 0;
  virtual Result<void> WriteState(unsigned cpu, const CpuState& state) = 0;

  // RAM by linear addresses of `cpu`, or by guest-physical ones; no device is ever touched. Returns
  // how many bytes could be read; writes all or nothing.
  virtual size_t ReadMemory(unsigned cpu, bool physical, uint64_t address,
                            std::span<uint8_t> out) = 0;
  virtual bool WriteMemory(unsigned cpu, bool physical, uint64_t address,
                           std::span<const uint8_t> in) = 0;

  // All points that there shall be. An error: nothing has changed.
  virtual Result<void> SetPoints(unsigned cpu, std::span<const DebugPoint> points) = 0;

  // Lets processors go, one motion for each. The next stop is told to Session::OnStop().
  virtual void Resume(std::span<const Motion> motions) = 0;
  // Stops the machine soon; OnStop() tells. Nothing if it stands still already.
  virtual void Interrupt() = 0;
  // Forgets all points and lets the machine go on.
  virtual void Detach() = 0;
  // Ends the run.
  virtual void Kill() = 0;

  // For `monitor`.
  virtual void ResetMachine() = 0;
  virtual void InjectNmi(unsigned cpu) = 0;
  virtual void PressPowerButton() = 0;
  virtual void LetStepsTakeInterrupts(bool on) = 0;
};

}  // namespace vmm::gdb
