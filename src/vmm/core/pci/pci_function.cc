#include "vmm/core/pci/pci_function.h"

#include <fmt/format.h>

#include <utility>

namespace vmm {

PciFunction::PciFunction(std::string name, const Identity& identity) : name_(std::move(name)) {
  config_.Define16(pci::kVendorId, identity.vendor);
  config_.Define16(pci::kDeviceId, identity.device);
  config_.Define32(pci::kRevisionId, identity.class_code << 8 | identity.revision);
}

void PciFunction::ReadConfig(uint16_t offset, std::span<uint8_t> data) {
  std::lock_guard lock(mutex_);
  config_.Read(offset, data);
  OnConfigRead(offset, data);
}

void PciFunction::WriteConfig(uint16_t offset, std::span<const uint8_t> data) {
  std::lock_guard lock(mutex_);
  config_.Write(offset, data);
  OnConfigWritten(offset, data.size());
}

void PciFunction::OnConfigWritten(uint16_t, size_t) {}

void PciFunction::OnConfigRead(uint16_t, std::span<uint8_t>) {}

void PciFunction::MarkMultiFunction() {
  const std::lock_guard lock(mutex_);
  config_.Define8(pci::kHeaderType, pci::kMultiFunction);
}

void PciFunction::Reset() {
  std::lock_guard lock(mutex_);
  config_.Reset();
  OnConfigWritten(0, pci::kConfigSize);
}

PciFunctionState PciFunction::Save() const {
  std::lock_guard lock(mutex_);
  return {.config = config_.bytes()};
}

Result<void> PciFunction::Load(const PciFunctionState& state) {
  std::lock_guard lock(mutex_);
  if (state.version != PciFunctionState::kVersion || !config_.Possible(state.config))
    return Fail(ExitCode::kConfigInvalid,
                fmt::format("{}: the saved configuration space is not this function's", name_));
  config_.Load(state.config);
  OnConfigWritten(0, pci::kConfigSize);
  return {};
}

}  // namespace vmm
