// The device that kernel unit tests (the "pc-testdev" of the field) expect: a latch, interrupt
// lines that a test raises itself, a page of RAM that the engine has to map again, and memory that
// is none of RAM. Only with `testdev = true`.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <mutex>
#include <span>

#include "vmm/core/base/result.h"
#include "vmm/core/base/types.h"
#include "vmm/core/bus/device_part.h"
#include "vmm/core/irq/irq_line.h"

namespace legacy {

namespace test_device {

inline constexpr uint16_t kLatchPort = 0xE0;      // 4 bytes, in any size
inline constexpr uint16_t kFlushPort = 0xE4;      // 32 bits: an address in the page
inline constexpr uint16_t kByteLatchPort = 0xE8;  // the lowest byte of the same latch
inline constexpr uint64_t kLatchSize = 4;
inline constexpr uint16_t kLinesPort = 0x2000;  // one port a line: 0 lowers, anything else raises
inline constexpr unsigned kLines = 24;
inline constexpr uint64_t kMemory = 0xFF000000;
inline constexpr uint64_t kMemorySize = 64 * 1024;

}  // namespace test_device

struct TestDeviceState {
  static constexpr uint32_t kVersion = 1;
  uint32_t version = kVersion;
  uint32_t latch = 0;
  uint32_t lines = 0;  // raised ones
  std::array<uint8_t, test_device::kMemorySize> memory{};
  friend bool operator==(const TestDeviceState&, const TestDeviceState&) = default;
};

// Threads: any. `flush_page` runs on the vCPU's thread with no lock held.
class TestDevice final {
 public:
  using Lines = std::array<vmm::IrqLine*, test_device::kLines>;  // null: no such interrupt

  TestDevice(const Lines& lines, std::function<void(vmm::GuestPhys)> flush_page);

  vmm::Device& latch() { return latch_; }
  vmm::Device& byte_latch() { return byte_latch_; }
  vmm::Device& flush() { return flush_; }
  vmm::Device& lines() { return lines_; }
  vmm::Device& memory() { return memory_; }

  void Reset();
  TestDeviceState Save() const;
  vmm::Result<void> Load(const TestDeviceState& state);

 private:
  void ReadLatch(uint64_t offset, std::span<uint8_t> data);
  void WriteLatch(uint64_t offset, std::span<const uint8_t> data);
  void ReadNothing(uint64_t offset, std::span<uint8_t> data);
  void WriteFlush(uint64_t offset, std::span<const uint8_t> data);
  void WriteLines(uint64_t offset, std::span<const uint8_t> data);
  void ReadMemory(uint64_t offset, std::span<uint8_t> data);
  void WriteMemory(uint64_t offset, std::span<const uint8_t> data);
  void SetLine(unsigned line, bool level);  // with the lock held

  vmm::DevicePart<TestDevice> latch_, byte_latch_, flush_, lines_, memory_;
  const Lines wires_;
  const std::function<void(vmm::GuestPhys)> flush_page_;

  mutable std::mutex mutex_;  // guards the state
  TestDeviceState state_;
};

}  // namespace legacy
