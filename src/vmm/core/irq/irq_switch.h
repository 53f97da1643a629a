// One interrupt wire with two sources of which only one counts: the 8254 or the HPET on interrupt
// 0, the RTC or the HPET on interrupt 8. [HPET] 2.3.5 (LEG_RT_CNF)
#pragma once

#include <array>
#include <mutex>

#include "vmm/core/irq/irq_line.h"

namespace vmm {

// Threads: any; lock rank: after the devices, before the shared wires. The level of the source that
// does not count is remembered, and shows when it is selected.
class IrqSwitch {
 public:
  explicit IrqSwitch(IrqLine& out) : out_(out) {}
  IrqSwitch(const IrqSwitch&) = delete;
  IrqSwitch& operator=(const IrqSwitch&) = delete;

  IrqLine& first() { return inputs_[0]; }  // counts until Select(true)
  IrqLine& second() { return inputs_[1]; }

  void Select(bool second) {
    std::lock_guard lock(mutex_);
    selected_ = second ? 1 : 0;
    out_.Set(levels_[selected_]);
  }

 private:
  class Input final : public IrqLine {
   public:
    Input(IrqSwitch& owner, unsigned index) : owner_(owner), index_(index) {}
    void Set(bool level) override {
      std::lock_guard lock(owner_.mutex_);
      owner_.levels_[index_] = level;
      if (index_ == owner_.selected_) owner_.out_.Set(level);
    }

   private:
    IrqSwitch& owner_;
    const unsigned index_;
  };

  IrqLine& out_;
  std::mutex mutex_;
  std::array<bool, 2> levels_{};
  unsigned selected_ = 0;
  std::array<Input, 2> inputs_{Input(*this, 0), Input(*this, 1)};
};

}  // namespace vmm
