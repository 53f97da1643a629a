// The ISA debug-exit port: the guest ends the run with a number. A CI payload's last instruction.
#pragma once

#include <cstdint>
#include <functional>
#include <utility>

#include "vmm/core/bus/device.h"

namespace legacy {

// A write of 1, 2 or 4 bytes to the first port is the verdict; the other ports and all reads do
// nothing. No state. Threads: any; the callback runs on the vCPU thread that wrote, and the guest
// goes on until the machine stops it, so it may come again.
class DebugExit final : public vmm::Device {
 public:
  static constexpr uint16_t kPort = 0xF4;
  static constexpr uint64_t kSize = 4;

  explicit DebugExit(std::function<void(uint32_t value)> exit) : exit_(std::move(exit)) {}

  std::string_view name() const override { return "debug-exit"; }
  void Read(uint64_t offset, std::span<uint8_t> data) override;
  void Write(uint64_t offset, std::span<const uint8_t> data) override;

 private:
  const std::function<void(uint32_t)> exit_;
};

}  // namespace legacy
