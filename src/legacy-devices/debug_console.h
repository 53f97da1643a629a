// A port that prints: SeaBIOS and OVMF write their log to 0x402, hypervisor-aware code to 0xE9.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "vmm/core/bus/device.h"
#include "vmm/core/host/char_backend.h"

namespace legacy {

// A byte written to the port goes to the backend; reading gives 0xE9, by which a guest knows that
// the port is there. No state. Threads: any.
class DebugConsole final : public vmm::Device {
 public:
  static constexpr uint16_t kFirmwarePort = 0x402;
  static constexpr uint16_t kBochsPort = 0xE9;
  static constexpr uint64_t kSize = 1;

  DebugConsole(std::string name, vmm::CharBackend& backend)
      : name_(std::move(name)), backend_(backend) {}

  std::string_view name() const override { return name_; }
  void Read(uint64_t offset, std::span<uint8_t> data) override;
  void Write(uint64_t offset, std::span<const uint8_t> data) override;

 private:
  const std::string name_;
  vmm::CharBackend& backend_;
};

}  // namespace legacy
