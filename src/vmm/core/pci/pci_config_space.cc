#include "vmm/core/pci/pci_config_space.h"

#include "vmm/core/base/bytes.h"
#include "vmm/core/base/check.h"

namespace vmm {

void PciConfigSpace::Define(uint16_t offset, unsigned size, uint32_t value, uint32_t writable,
                            uint32_t write_clears) {
  CHECK(offset + size <= pci::kConfigSize && (writable & write_clears) == 0);
  for (unsigned i = 0; i < size; ++i) {
    bytes_[offset + i] = reset_[offset + i] = ByteOf(value, i);
    writable_[offset + i] = ByteOf(writable, i);
    write_clears_[offset + i] = ByteOf(write_clears, i);
  }
}

void PciConfigSpace::AddWritable16(uint16_t offset, uint16_t writable) {
  CHECK(offset + 2 <= pci::kConfigSize);
  for (unsigned i = 0; i < 2; ++i) writable_[offset + i] |= ByteOf(writable, i);
}

void PciConfigSpace::SetInitial32(uint16_t offset, uint32_t value) {
  CHECK(offset + 4 <= pci::kConfigSize);
  for (unsigned i = 0; i < 4; ++i) {
    const uint8_t writable = writable_[offset + i];
    uint8_t& reset = reset_[offset + i];
    reset = static_cast<uint8_t>((reset & ~writable) | (ByteOf(value, i) & writable));
    bytes_[offset + i] = reset;
  }
}

uint32_t PciConfigSpace::Get(uint16_t offset, unsigned size) const {
  CHECK(offset + size <= pci::kConfigSize);
  return static_cast<uint32_t>(LoadLittleEndian(std::span(bytes_).subspan(offset, size)));
}

void PciConfigSpace::Read(uint16_t offset, std::span<uint8_t> data) const {
  for (size_t i = 0; i < data.size(); ++i)
    data[i] = offset + i < bytes_.size() ? bytes_[offset + i] : 0xFF;
}

void PciConfigSpace::Write(uint16_t offset, std::span<const uint8_t> data) {
  for (size_t i = 0; i < data.size() && offset + i < bytes_.size(); ++i) {
    const size_t at = offset + i;
    bytes_[at] = static_cast<uint8_t>((bytes_[at] & ~writable_[at]) | (data[i] & writable_[at]));
    bytes_[at] = static_cast<uint8_t>(bytes_[at] & ~(data[i] & write_clears_[at]));
  }
}

bool PciConfigSpace::Possible(const Bytes& bytes) const {
  for (size_t i = 0; i < bytes.size(); ++i) {
    const uint8_t may_differ = writable_[i] | write_clears_[i];
    if (((bytes[i] ^ reset_[i]) & ~may_differ) != 0) return false;
  }
  return true;
}

}  // namespace vmm
