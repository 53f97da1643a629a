#include "vmm/core/pci/piix3_isa.h"

#include <utility>

#include "vmm/core/base/check.h"

namespace vmm {

namespace {

constexpr uint8_t kNotRouted = 0x80;
constexpr uint8_t kPirqMask = 0x8F;

}  // namespace

// Values after reset as in the data sheet's register descriptions, but for the routes, which are
// what a BIOS chooses: a guest that starts without one finds its interrupts. [PIIX3]
Piix3Isa::Piix3Isa(std::function<void(unsigned pirq, Route)> routed)
    : PciFunction("piix3-isa",
                  {.vendor = 0x8086, .device = 0x7000, .revision = 0x00, .class_code = 0x060100}),
      routed_(std::move(routed)) {
  PciConfigSpace& c = config();
  c.Define16(pci::kCommand, 0x0007, 0x0008);  // I/O, memory and bus master for ever; special cycles
  c.Define16(pci::kStatus, 0x0200, 0, 0x7800);
  c.Define8(pci::kHeaderType, pci::kMultiFunction);
  c.Define8(kIort, 0x4D, 0xFF);
  c.Define16(kXbcs, 0x0003, 0x01FF);
  const uint8_t routes[kPirqs] = {10, 10, 11, 11};
  for (uint16_t i = 0; i < kPirqs; ++i) c.Define8(kPirqrc + i, routes[i], kPirqMask);
  c.Define8(kTom, 0x02, 0xFE);
  c.Define16(kMstat, 0x0000, 0x0040, 0x8000);
  c.Define8(kMbirq0, 0x80, 0xEF);
  c.Define16(kMbdma, 0x0C0C, 0x8F8F);
  c.Define16(kPcsc, 0x0002, 0xFFFF);
  c.Define8(kApicbase, 0x00, 0x7F);
  c.Define8(kDlc, 0x00, 0x0F);
  c.Define8(kSmicntl, 0x08, 0x1F);
  c.Define16(kSmien, 0x0000, 0x01FF);
  c.Define32(kSee, 0x0000'0000, 0xFFFF'FFFF);
  c.Define8(kFtmr, 0x0F, 0xFF);
  c.Define16(kSmireq, 0x0000, 0, 0x01FF);
  c.Define8(kCtlTmr, 0x00, 0xFF);
  c.Define8(kCthTmr, 0x00, 0xFF);
  for (unsigned i = 0; i < kPirqs; ++i) routes_[i] = Decode(i);
}

Piix3Isa::Route Piix3Isa::Decode(unsigned pirq) const {
  const uint8_t value = config().Get8(static_cast<uint16_t>(kPirqrc + pirq));
  const unsigned irq = value & 0x0F;
  if ((value & kNotRouted) != 0 || (kRoutable >> irq & 1) == 0) return std::nullopt;
  return Gsi(irq);
}

Piix3Isa::Route Piix3Isa::RouteOf(unsigned pirq) const {
  CHECK(pirq < kPirqs);
  std::lock_guard lock(mutex());
  return routes_[pirq];
}

void Piix3Isa::OnConfigWritten(uint16_t, size_t) {
  for (unsigned pirq = 0; pirq < kPirqs; ++pirq) {
    const Route now = Decode(pirq);
    if (now == routes_[pirq]) continue;
    routes_[pirq] = now;
    if (routed_) routed_(pirq, now);
  }
}

}  // namespace vmm
