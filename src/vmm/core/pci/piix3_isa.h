// Function 00:01.0: the PCI-to-ISA bridge of the 82371SB. [PIIX3]
#pragma once

#include <array>
#include <functional>
#include <optional>

#include "vmm/core/base/types.h"
#include "vmm/core/pci/pci_function.h"

namespace vmm {

class Piix3Isa final : public PciFunction {
 public:
  enum Register : uint16_t {
    kIort = 0x4C,
    kXbcs = 0x4E,    // 16 bits
    kPirqrc = 0x60,  // 4 bytes: PIRQA to PIRQD
    kTom = 0x69,
    kMstat = 0x6A,  // 16 bits
    kMbirq0 = 0x70,
    kMbdma = 0x76,  // 2 bytes
    kPcsc = 0x78,   // 16 bits
    kApicbase = 0x80,
    kDlc = 0x82,
    kSmicntl = 0xA0,
    kSmien = 0xA2,  // 16 bits
    kSee = 0xA4,    // 32 bits
    kFtmr = 0xA8,
    kSmireq = 0xAA,  // 16 bits
    kCtlTmr = 0xAC,
    kCthTmr = 0xAE,
  };
  static constexpr unsigned kPirqs = 4;
  static constexpr uint16_t kRoutable = 0xDEF8;  // IRQ 3-7, 9-12, 14, 15

  using Route = std::optional<Gsi>;

  // `routed` is called when the route of a PIRQ changes, with the function's lock held, so that
  // calls come in the order of the writes; it must not come back here. Null: nobody wants to know.
  explicit Piix3Isa(std::function<void(unsigned pirq, Route)> routed = {});

  // The ISA IRQ that PIRQA (0) to PIRQD (3) go to; none if they aren't routed. As the data sheet
  // says, IRQ 0, 1, 2, 8 and 13 can't be chosen.
  Route RouteOf(unsigned pirq) const;

 private:
  void OnConfigWritten(uint16_t offset, size_t size) override;
  Route Decode(unsigned pirq) const;

  const std::function<void(unsigned pirq, Route)> routed_;
  std::array<Route, kPirqs> routes_;
};

}  // namespace vmm
