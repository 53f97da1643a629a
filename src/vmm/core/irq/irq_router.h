// The interrupt wiring of the board: each global system interrupt reaches a pin of the 8259 pair
// and a pin of the IOAPIC. [ACPI] 5.2.12, 5.2.13
#pragma once

#include <array>
#include <memory>

#include "vmm/core/base/types.h"
#include "vmm/core/irq/ioapic.h"
#include "vmm/core/irq/irq_line.h"
#include "vmm/core/irq/pic8259.h"
#include "vmm/core/irq/shared_irq_line.h"

namespace vmm {

// Interrupts 0 to 15 are the ISA ones: 8259 pin n and IOAPIC pin n, but for the timer (0), which is
// at IOAPIC pin 2 as the MADT's override says. 16 to 23 are IOAPIC pins only. There is no
// interrupt 2: that pin of the 8259 is the cascade.
//
// Threads: Line() before the machine runs; the lines themselves from any thread. Lock rank: after
// the devices, before the interrupt controllers.
class IrqRouter {
 public:
  static constexpr unsigned kGsis = Ioapic::kPins;
  static constexpr unsigned kTimerIoapicPin = 2;

  IrqRouter(Pic8259Pair& pic, Ioapic& ioapic);
  IrqRouter(const IrqRouter&) = delete;
  IrqRouter& operator=(const IrqRouter&) = delete;

  // A source of its own at each call: devices that share an interrupt each ask for a line, and the
  // interrupt is asserted while any of them is. Lives as long as the router.
  IrqLine& Line(Gsi gsi);

  static constexpr unsigned IoapicPin(Gsi gsi) {
    return gsi.value == 0 ? kTimerIoapicPin : gsi.value;
  }

 private:
  class Wire final : public IrqLine {
   public:
    Wire(Pic8259Pair& pic, Ioapic& ioapic, Gsi gsi) : pic_(pic), ioapic_(ioapic), gsi_(gsi) {}
    void Set(bool level) override;

   private:
    Pic8259Pair& pic_;
    Ioapic& ioapic_;
    const Gsi gsi_;
  };
  struct Interrupt {
    Interrupt(Pic8259Pair& pic, Ioapic& ioapic, Gsi gsi) : wire(pic, ioapic, gsi), sources(wire) {}
    Wire wire;
    SharedIrqLine sources;
  };

  std::array<std::unique_ptr<Interrupt>, kGsis> interrupts_;
};

}  // namespace vmm
