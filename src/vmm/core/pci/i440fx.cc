#include "vmm/core/pci/i440fx.h"

namespace vmm {

// Values after reset as in the data sheet's register descriptions. [I440FX]
I440Fx::I440Fx()
    : PciFunction("i440fx",
                  {.vendor = 0x8086, .device = 0x1237, .revision = 0x02, .class_code = 0x060000}) {
  PciConfigSpace& c = config();
  c.Define16(pci::kCommand, 0x0006, 0x0100);  // memory and bus master for ever; SERR
  c.Define16(pci::kStatus, 0x0280, 0, pci::kStatusErrors);
  c.Define8(pci::kLatencyTimer, 0x00, 0xF8);
  c.Define16(kPmccfg, 0x0000, 0xFFFF);
  c.Define8(kDeturbo, 0x00, 0xFF);
  c.Define8(kDbc, 0x80, 0xFF);
  c.Define8(kAxc, 0x00, 0xFF);
  c.Define16(kDrt, 0x0000, 0xFFFF);
  c.Define8(kDramc, 0x01, 0xFF);
  c.Define8(kDramt, 0x10, 0xFF);
  c.Define8(kPam, 0x00, 0x30);
  for (uint16_t i = 1; i < 7; ++i) c.Define8(kPam + i, 0x00, 0x33);
  for (uint16_t i = 0; i < 8; ++i) c.Define8(kDrb + i, 0x01, 0xFF);
  c.Define8(kFdhc, 0x00, 0xC0);
  c.Define8(kMtt, 0x00, 0xFF);
  c.Define8(kClt, 0x10, 0xFF);
  c.Define8(kSmram, 0x02, 0x78);
  c.Define8(kErrcmd, 0x00, 0xFF);
  c.Define8(kErrsts, 0x00, 0, 0x11);
}

}  // namespace vmm
