// Function 00:01.3: power management and SMBus of the 82371AB. Its registers say where the I/O
// blocks are; what is in them are devices of their own. [PIIX4] function 3
#pragma once

#include <array>
#include <functional>

#include "vmm/core/base/types.h"
#include "vmm/core/pci/pci_function.h"

namespace vmm {

class Piix4Pm final : public PciFunction {
 public:
  enum Register : uint16_t {
    kPmba = 0x40,       // 32 bits: base of the PM block
    kCounta = 0x44,     // 32 bits
    kCountb = 0x48,     // 32 bits
    kGpicntl = 0x4C,    // 32 bits
    kDevresd = 0x50,    // 24 bits
    kDevacta = 0x54,    // 32 bits
    kDevactb = 0x58,    // 32 bits
    kDevres = 0x5C,     // to 0x7C: device resources A to J, 32 bits each
    kPmregmisc = 0x80,  // bit 0: the PM block answers
    kSmbba = 0x90,      // 32 bits: base of the SMBus block
    kSmbhstcfg = 0xD2,  // bit 0: the SMBus block answers
    kSmbrev = 0xD6,
  };

  enum class Block { kPowerManagement, kSmbus };
  static constexpr uint16_t kDefaultPmBase = 0x600;
  static constexpr uint16_t kDefaultSmbusBase = 0x700;
  static constexpr uint64_t kPmSize = 0x40;
  static constexpr uint64_t kSmbusSize = 0x10;

  struct Placement {
    Port base{0};
    bool enabled = false;
    friend bool operator==(const Placement&, const Placement&) = default;
  };

  // As a BIOS leaves it, for guests that start without one: both blocks answer at their default
  // bases. `moved` is called when that changes, with the function's lock held, so that calls come
  // in the order of the writes; it must not come back here.
  explicit Piix4Pm(std::function<void(Block, Placement)> moved);

  Placement Where(Block block) const;

 private:
  void OnConfigWritten(uint16_t offset, size_t size) override;
  Placement Decode(Block block) const;

  const std::function<void(Block, Placement)> moved_;
  std::array<Placement, 2> placed_;
};

}  // namespace vmm
