#include "vmm/core/pci/pci_host_bridge.h"

#include <fmt/format.h>

#include <algorithm>

#include "vmm/core/base/bytes.h"

namespace vmm {

namespace {

// CONFIG_ADDRESS: enable, bus, device, function, register. [PCI] Figure 3-2
constexpr uint32_t kEnable = 0x8000'0000;
constexpr uint32_t kAddressMask = 0x80FF'FFFC;
constexpr uint64_t kResetControlOffset = 1;
constexpr uint64_t kDataOffset = 4;

bool IsAddressAccess(uint64_t offset, size_t size) {
  return offset == 0 && size == 4;
}
bool IsResetControlAccess(uint64_t offset, size_t size) {
  return offset == kResetControlOffset && size == 1;
}
bool IsDataAccess(uint64_t offset, size_t size) {
  return offset >= kDataOffset && offset < PciHostBridge::kSize &&
         size <= PciHostBridge::kSize - offset;
}

}  // namespace

Result<void> PciHostBridge::Add(PciSlot slot, PciFunction& function) {
  std::lock_guard lock(mutex_);
  if (slot.device >= kDevices || slot.function >= kFunctions)
    return Fail(ExitCode::kInternal, fmt::format("{}: PCI slot 00:{:02x}.{} doesn't exist",
                                                 function.name(), slot.device, slot.function));
  PciFunction*& place = functions_[slot.device * kFunctions + slot.function];
  if (place != nullptr)
    return Fail(ExitCode::kInternal,
                fmt::format("{}: PCI slot 00:{:02x}.{} is taken by {}", function.name(),
                            slot.device, slot.function, place->name()));
  place = &function;
  return {};
}

void PciHostBridge::Remove(PciSlot slot) {
  std::lock_guard lock(mutex_);
  if (slot.device < kDevices && slot.function < kFunctions)
    functions_[slot.device * kFunctions + slot.function] = nullptr;
}

PciFunction* PciHostBridge::Find(PciSlot slot) const {
  std::lock_guard lock(mutex_);
  if (slot.device >= kDevices || slot.function >= kFunctions) return nullptr;
  return functions_[slot.device * kFunctions + slot.function];
}

PciFunction* PciHostBridge::Selected(uint16_t* offset) const {
  std::lock_guard lock(mutex_);
  if ((config_address_ & kEnable) == 0) return nullptr;
  if (ByteOf(config_address_, 2) != 0) return nullptr;  // there is bus 0 only
  *offset = config_address_ & 0xFC;
  return functions_[(config_address_ >> 8) & 0xFF];
}

void PciHostBridge::Read(uint64_t offset, std::span<uint8_t> data) {
  std::fill(data.begin(), data.end(), uint8_t{0xFF});
  if (IsAddressAccess(offset, data.size())) {
    std::lock_guard lock(mutex_);
    StoreLittleEndian(data, config_address_);
  } else if (IsResetControlAccess(offset, data.size())) {
    if (reset_control_ != nullptr) reset_control_->Read(0, data);
  } else if (IsDataAccess(offset, data.size())) {
    uint16_t reg = 0;
    if (PciFunction* function = Selected(&reg))
      function->ReadConfig(static_cast<uint16_t>(reg + offset - kDataOffset), data);
  }
}

void PciHostBridge::Write(uint64_t offset, std::span<const uint8_t> data) {
  if (IsAddressAccess(offset, data.size())) {
    std::lock_guard lock(mutex_);
    config_address_ = static_cast<uint32_t>(LoadLittleEndian(data)) & kAddressMask;
  } else if (IsResetControlAccess(offset, data.size())) {
    if (reset_control_ != nullptr) reset_control_->Write(0, data);
  } else if (IsDataAccess(offset, data.size())) {
    uint16_t reg = 0;
    if (PciFunction* function = Selected(&reg))
      function->WriteConfig(static_cast<uint16_t>(reg + offset - kDataOffset), data);
  }
}

void PciHostBridge::Reset() {
  std::lock_guard lock(mutex_);
  config_address_ = 0;
}

PciHostBridgeState PciHostBridge::Save() const {
  std::lock_guard lock(mutex_);
  return {.config_address = config_address_};
}

Result<void> PciHostBridge::Load(const PciHostBridgeState& state) {
  if (state.version != PciHostBridgeState::kVersion || (state.config_address & ~kAddressMask) != 0)
    return Fail(ExitCode::kConfigInvalid,
                "pci-host-bridge: the saved state is not one of a host bridge");
  std::lock_guard lock(mutex_);
  config_address_ = state.config_address;
  return {};
}

}  // namespace vmm
