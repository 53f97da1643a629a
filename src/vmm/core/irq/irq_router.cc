#include "vmm/core/irq/irq_router.h"

#include "vmm/core/base/check.h"

namespace vmm {

IrqRouter::IrqRouter(Pic8259Pair& pic, Ioapic& ioapic) {
  for (unsigned gsi = 0; gsi < kGsis; ++gsi) {
    if (gsi == pic8259::kCascadePin) continue;
    interrupts_[gsi] = std::make_unique<Interrupt>(pic, ioapic, Gsi(gsi));
  }
}

IrqLine& IrqRouter::Line(Gsi gsi) {
  CHECK(gsi.value < kGsis && interrupts_[gsi.value] != nullptr);
  return interrupts_[gsi.value]->sources.AddInput();
}

void IrqRouter::Wire::Set(bool level) {
  if (gsi_.value < Pic8259Pair::kPins) pic_.Set(gsi_.value, level);
  ioapic_.Set(IoapicPin(gsi_), level);
}

}  // namespace vmm
