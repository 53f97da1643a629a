// The contract of a device on a bus: three calls. A device gets its interrupt line, clock, timers
// and backends by reference when it is made; it knows neither the machine nor the engine and starts
// no thread. Read and Write may be called from any vCPU thread at once; a device guards itself.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace vmm {

class Device {
 public:
  virtual ~Device() = default;

  // For logs, `vmm inspect` and saved state: lower case, unique in a machine ("serial0").
  virtual std::string_view name() const = 0;

  // `offset` is relative to the start of the range the device was attached at; `data` is 1, 2, 4 or
  // 8 bytes. Any size at any offset is legal for a guest: hardware answers something, never an
  // error. Reads fill all of `data`.
  virtual void Read(uint64_t offset, std::span<uint8_t> data) = 0;
  virtual void Write(uint64_t offset, std::span<const uint8_t> data) = 0;
};

}  // namespace vmm
