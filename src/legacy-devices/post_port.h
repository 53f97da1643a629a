// Port 0x80: firmware writes its progress there, and everybody else writes to it to lose a
// microsecond.
#pragma once

#include <atomic>
#include <cstdint>

#include "vmm/core/bus/device.h"

namespace legacy {

// Keeps the last byte, which a PC's spare DMA page register gives back. Nothing depends on it, so
// it is not saved. Threads: any, without a lock: a driver's I/O delay must cost no more than it has
// to.
class PostPort final : public vmm::Device {
 public:
  static constexpr uint16_t kPort = 0x80;
  static constexpr uint64_t kSize = 1;

  std::string_view name() const override { return "post"; }
  void Read(uint64_t offset, std::span<uint8_t> data) override;
  void Write(uint64_t offset, std::span<const uint8_t> data) override;

  uint8_t last_code() const { return code_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint8_t> code_{0};
};

}  // namespace legacy
