// Access to PCI configuration space through ports 0xCF8 and 0xCFC, and the functions of bus 0.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <mutex>
#include <span>

#include "vmm/core/base/result.h"
#include "vmm/core/bus/device.h"
#include "vmm/core/pci/pci_function.h"

namespace vmm {

// Where a function sits on bus 0.
struct PciSlot {
  uint8_t device = 0;    // 0 to 31
  uint8_t function = 0;  // 0 to 7; a device needs its function 0
  friend auto operator<=>(PciSlot, PciSlot) = default;
};

struct PciHostBridgeState {
  static constexpr uint32_t kVersion = 1;
  uint32_t version = kVersion;
  uint32_t config_address = 0;
  friend bool operator==(const PciHostBridgeState&, const PciHostBridgeState&) = default;
};

// Configuration mechanism #1 [PCI] 3.2.2.3.2. The address register takes 32-bit accesses only; a
// byte at 0xCF9 is another device's, the reset control register, to which it is passed on.
//
// Threads: any. The address register is one for all vCPUs; guests lock it.
class PciHostBridge final : public Device {
 public:
  static constexpr uint16_t kPort = 0xCF8;
  static constexpr uint64_t kSize = 8;

  // `reset_control` answers the byte at 0xCF9; may be null. It outlives the bridge.
  explicit PciHostBridge(Device* reset_control) : reset_control_(reset_control) {}

  // Before the machine runs, or when a function is plugged in. kInternal if the slot doesn't exist
  // or is taken. The function outlives the bridge or is removed.
  Result<void> Add(PciSlot slot, PciFunction& function);
  void Remove(PciSlot slot);
  PciFunction* Find(PciSlot slot) const;  // null if nobody is there

  std::string_view name() const override { return "pci-host-bridge"; }
  void Read(uint64_t offset, std::span<uint8_t> data) override;
  void Write(uint64_t offset, std::span<const uint8_t> data) override;

  void Reset();
  PciHostBridgeState Save() const;
  Result<void> Load(const PciHostBridgeState& state);

 private:
  static constexpr unsigned kDevices = 32;
  static constexpr unsigned kFunctions = 8;

  // The function that the address register selects, and the register in it.
  PciFunction* Selected(uint16_t* offset) const;

  Device* const reset_control_;

  mutable std::mutex mutex_;  // guards all below; dropped before a function is called
  uint32_t config_address_ = 0;
  std::array<PciFunction*, kDevices * kFunctions> functions_{};
};

}  // namespace vmm
