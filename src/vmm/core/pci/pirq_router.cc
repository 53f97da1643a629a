#include "vmm/core/pci/pirq_router.h"

#include "vmm/core/base/check.h"
#include "vmm/core/pci/piix3_isa.h"

namespace vmm {

PirqRouter::PirqRouter(IrqRouter& router) {
  for (unsigned i = 0; i < kPirqs; ++i) {
    pirqs_[i].ioapic = &router.Line(Gsi(kFirstGsi + i));
    for (unsigned irq = 0; irq < kIsaIrqs; ++irq) {
      if (Piix3Isa::kRoutable >> irq & 1) pirqs_[i].isa[irq] = &router.Line(Gsi(irq));
    }
  }
}

IrqLine& PirqRouter::Pin(PciSlot slot, unsigned pin) {
  inputs_.push_back(std::make_unique<Input>(*this, PirqOf(slot, pin)));
  return *inputs_.back();
}

void PirqRouter::Set(Input& input, bool level) {
  const std::lock_guard lock(mutex_);
  if (input.level_ == level) return;
  input.level_ = level;
  Pirq& pirq = pirqs_[input.pirq_];
  pirq.high += level ? 1u : -1u;
  pirq.ioapic->Set(pirq.high != 0);
  if (pirq.route) pirq.isa[pirq.route->value]->Set(pirq.high != 0);
}

void PirqRouter::Route(unsigned pirq, std::optional<Gsi> isa) {
  CHECK(pirq < kPirqs && (!isa || (isa->value < kIsaIrqs && pirqs_[pirq].isa[isa->value])));
  const std::lock_guard lock(mutex_);
  Pirq& wire = pirqs_[pirq];
  if (wire.route) wire.isa[wire.route->value]->Set(false);
  wire.route = isa;
  if (wire.route) wire.isa[wire.route->value]->Set(wire.high != 0);
}

}  // namespace vmm
