// The gate of address line 20, which a PC's processors had masked to behave like an 8086 at 1 MiB.
// [PS2] System control port A; [PC-AT] Keyboard controller
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <utility>

#include "vmm/core/base/result.h"

namespace legacy {

struct A20GateState {
  static constexpr uint32_t kVersion = 1;
  uint32_t version = kVersion;
  bool open = true;
  friend bool operator==(const A20GateState&, const A20GateState&) = default;
};

// Ports 0x92 and 0x60 (the keyboard controller's) have one handle each; the last that was moved
// counts, and both show where the gate is. It is open after reset, as firmware leaves it.
//
// Threads: any. Lock rank: after the devices. The callback runs with the lock held, so that the
// last call tells the truth.
class A20Gate {
 public:
  explicit A20Gate(std::function<void(bool open)> moved) : moved_(std::move(moved)) {}

  bool open() const {
    std::lock_guard lock(mutex_);
    return state_.open;
  }
  void Set(bool open) {
    std::lock_guard lock(mutex_);
    if (state_.open == open) return;
    state_.open = open;
    moved_(open);
  }
  void Reset() { Set(true); }
  A20GateState Save() const {
    std::lock_guard lock(mutex_);
    return state_;
  }
  vmm::Result<void> Load(const A20GateState& state) {
    if (state.version != A20GateState::kVersion) {
      return vmm::Fail(vmm::ExitCode::kConfigInvalid,
                       "a20: the saved state is not one of the gate");
    }
    Set(state.open);
    return {};
  }

 private:
  const std::function<void(bool)> moved_;
  mutable std::mutex mutex_;
  A20GateState state_;
};

}  // namespace legacy
