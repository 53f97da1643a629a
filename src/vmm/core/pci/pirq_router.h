// From the interrupt pins of PCI functions to the interrupt controllers. [PIIX3] PIRQRC, [ACPI]
// 6.2.13; firmware/acpi/pci_routing.asl and acpi/mp_table.cc say the same to the guest
#pragma once

#include <array>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "vmm/core/irq/irq_line.h"
#include "vmm/core/irq/irq_router.h"
#include "vmm/core/pci/pci_host_bridge.h"

namespace vmm {

// Four wires, PIRQA to PIRQD: each is a pin of the IOAPIC, 16 to 19, and goes besides to the ISA
// interrupt that the PIIX3 routes it to. High while any pin on it is.
//
// Threads: Pin() before the machine runs, all else any. Lock rank: after the devices, before the
// shared wires.
class PirqRouter {
 public:
  static constexpr unsigned kPirqs = 4;
  static constexpr uint32_t kFirstGsi = 16;

  explicit PirqRouter(IrqRouter& router);
  PirqRouter(const PirqRouter&) = delete;
  PirqRouter& operator=(const PirqRouter&) = delete;

  // The wire of a function's pin, 0 for INTA. Lives as long as the router.
  IrqLine& Pin(PciSlot slot, unsigned pin);
  static constexpr unsigned PirqOf(PciSlot slot, unsigned pin) {
    return (slot.device + kPirqs - 1 + pin) % kPirqs;
  }

  // None: the PIRQ goes to no ISA interrupt.
  void Route(unsigned pirq, std::optional<Gsi> isa);

 private:
  static constexpr unsigned kIsaIrqs = 16;

  class Input final : public IrqLine {
   public:
    Input(PirqRouter& router, unsigned pirq) : router_(router), pirq_(pirq) {}
    void Set(bool level) override { router_.Set(*this, level); }

   private:
    friend class PirqRouter;
    PirqRouter& router_;
    const unsigned pirq_;
    bool level_ = false;  // guarded by router_.mutex_
  };
  struct Pirq {
    IrqLine* ioapic = nullptr;
    std::array<IrqLine*, kIsaIrqs> isa{};  // null where none can be routed to
    std::optional<Gsi> route;
    unsigned high = 0;  // inputs that are
  };

  void Set(Input& input, bool level);

  std::mutex mutex_;
  std::array<Pirq, kPirqs> pirqs_;
  std::vector<std::unique_ptr<Input>> inputs_;
};

}  // namespace vmm
