// The 256 bytes of one function, each bit read-only, writable, or cleared by writing a 1 to it.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "vmm/core/pci/pci_regs.h"

namespace vmm {

// Built once by the function that owns it (Define...), then written by the guest. A register that
// isn't defined reads as zero and ignores writes, as reserved ones do. [PCI] 6.1
class PciConfigSpace {
 public:
  using Bytes = std::array<uint8_t, pci::kConfigSize>;

  // `value` after reset; the guest can write the bits of `writable` and clear those of
  // `write_clears`.
  void Define8(uint16_t offset, uint8_t value, uint8_t writable = 0, uint8_t write_clears = 0) {
    Define(offset, 1, value, writable, write_clears);
  }
  void Define16(uint16_t offset, uint16_t value, uint16_t writable = 0, uint16_t write_clears = 0) {
    Define(offset, 2, value, writable, write_clears);
  }
  void Define32(uint16_t offset, uint32_t value, uint32_t writable = 0, uint32_t write_clears = 0) {
    Define(offset, 4, value, writable, write_clears);
  }

  // The guest can write these bits too.
  void AddWritable16(uint16_t offset, uint16_t writable);
  // What Reset() gives the writable bits from now on; they take it at once.
  void SetInitial32(uint16_t offset, uint32_t value);

  uint8_t Get8(uint16_t offset) const { return bytes_[offset]; }
  uint16_t Get16(uint16_t offset) const { return static_cast<uint16_t>(Get(offset, 2)); }
  uint32_t Get32(uint16_t offset) const { return Get(offset, 4); }

  // The guest's accesses; what lies beyond the space reads as ones.
  void Read(uint16_t offset, std::span<uint8_t> data) const;
  void Write(uint16_t offset, std::span<const uint8_t> data);

  void Reset() { bytes_ = reset_; }

  const Bytes& bytes() const { return bytes_; }
  // Could the guest have made this of what was defined?
  bool Possible(const Bytes& bytes) const;
  void Load(const Bytes& bytes) { bytes_ = bytes; }  // possible ones

 private:
  void Define(uint16_t offset, unsigned size, uint32_t value, uint32_t writable,
              uint32_t write_clears);
  uint32_t Get(uint16_t offset, unsigned size) const;

  Bytes bytes_{};
  Bytes reset_{};
  Bytes writable_{};
  Bytes write_clears_{};
};

}  // namespace vmm
