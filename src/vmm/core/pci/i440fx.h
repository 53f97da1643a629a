// Function 00:00.0: the host bridge and memory controller 82441FX. [I440FX]
#pragma once

#include "vmm/core/pci/pci_function.h"

namespace vmm {

// Its registers are kept and do nothing: guest memory is always all there, in both directions.
class I440Fx final : public PciFunction {
 public:
  enum Register : uint16_t {
    kPmccfg = 0x50,  // 16 bits
    kDeturbo = 0x52,
    kDbc = 0x53,
    kAxc = 0x54,
    kDrt = 0x55,  // 16 bits
    kDramc = 0x57,
    kDramt = 0x58,
    kPam = 0x59,  // 7 bytes: who answers at 0xC0000-0xFFFFF
    kDrb = 0x60,  // 8 bytes
    kFdhc = 0x68,
    kMtt = 0x70,
    kClt = 0x71,
    kSmram = 0x72,
    kErrcmd = 0x90,
    kErrsts = 0x91,
  };

  I440Fx();
};

}  // namespace vmm
