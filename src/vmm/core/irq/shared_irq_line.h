// Several devices on one interrupt wire, as COM1 and COM3 on IRQ 4, or PCI functions on a PIRQ.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "vmm/core/irq/irq_line.h"

namespace vmm {

// The wire is high while any input is. Threads: any; lock rank: after the devices, before the
// interrupt controllers. Inputs are added before the machine runs and live as long as this.
class SharedIrqLine {
 public:
  explicit SharedIrqLine(IrqLine& out) : out_(out) {}
  SharedIrqLine(const SharedIrqLine&) = delete;
  SharedIrqLine& operator=(const SharedIrqLine&) = delete;

  // A line of its own for one more device.
  IrqLine& AddInput() {
    inputs_.push_back(std::make_unique<Input>(*this));
    return *inputs_.back();
  }

 private:
  class Input final : public IrqLine {
   public:
    explicit Input(SharedIrqLine& shared) : shared_(shared) {}
    void Set(bool level) override { shared_.Set(level_, level); }

   private:
    SharedIrqLine& shared_;
    bool level_ = false;  // guarded by shared_.mutex_
  };

  void Set(bool& input, bool level) {
    std::lock_guard lock(mutex_);
    if (input == level) return;
    input = level;
    high_ += level ? 1 : -1;
    out_.Set(high_ != 0);
  }

  IrqLine& out_;
  std::mutex mutex_;
  int high_ = 0;  // inputs that are
  std::vector<std::unique_ptr<Input>> inputs_;
};

}  // namespace vmm
