#include "legacy-devices/test_device.h"

#include <algorithm>
#include <utility>

#include "vmm/core/base/bytes.h"

namespace legacy {

using namespace test_device;

TestDevice::TestDevice(const Lines& lines, std::function<void(vmm::GuestPhys)> flush_page)
    : latch_("testdev-latch", *this, &TestDevice::ReadLatch, &TestDevice::WriteLatch),
      byte_latch_("testdev-byte-latch", *this, &TestDevice::ReadLatch, &TestDevice::WriteLatch),
      flush_("testdev-flush", *this, &TestDevice::ReadNothing, &TestDevice::WriteFlush),
      lines_("testdev-lines", *this, &TestDevice::ReadNothing, &TestDevice::WriteLines),
      memory_("testdev-memory", *this, &TestDevice::ReadMemory, &TestDevice::WriteMemory),
      wires_(lines),
      flush_page_(std::move(flush_page)) {}

void TestDevice::ReadLatch(uint64_t offset, std::span<uint8_t> data) {
  std::lock_guard lock(mutex_);
  for (size_t i = 0; i < data.size(); ++i) {
    data[i] = offset + i < kLatchSize ? vmm::ByteOf(state_.latch, offset + i) : 0xFF;
  }
}

void TestDevice::WriteLatch(uint64_t offset, std::span<const uint8_t> data) {
  std::lock_guard lock(mutex_);
  for (size_t i = 0; i < data.size() && offset + i < kLatchSize; ++i) {
    state_.latch = vmm::WithByte(state_.latch, offset + i, data[i]);
  }
}

void TestDevice::ReadNothing(uint64_t, std::span<uint8_t> data) {
  std::fill(data.begin(), data.end(), uint8_t{0xFF});
}

void TestDevice::WriteFlush(uint64_t offset, std::span<const uint8_t> data) {
  if (offset != 0 || data.size() != 4) return;
  const uint64_t address = vmm::LoadLittleEndian(data);
  flush_page_(vmm::GuestPhys(address & ~(vmm::kPageSize - 1)));
}

void TestDevice::SetLine(unsigned line, bool level) {
  if (wires_[line] == nullptr) return;
  const uint32_t bit = 1u << line;
  state_.lines = level ? state_.lines | bit : state_.lines & ~bit;
  wires_[line]->Set(level);
}

void TestDevice::WriteLines(uint64_t offset, std::span<const uint8_t> data) {
  if (offset >= kLines || data.empty()) return;
  std::lock_guard lock(mutex_);
  SetLine(static_cast<unsigned>(offset), vmm::LoadLittleEndian(data) != 0);
}

void TestDevice::ReadMemory(uint64_t offset, std::span<uint8_t> data) {
  std::lock_guard lock(mutex_);
  for (size_t i = 0; i < data.size(); ++i) {
    data[i] = offset + i < kMemorySize ? state_.memory[offset + i] : 0xFF;
  }
}

void TestDevice::WriteMemory(uint64_t offset, std::span<const uint8_t> data) {
  std::lock_guard lock(mutex_);
  for (size_t i = 0; i < data.size() && offset + i < kMemorySize; ++i) {
    state_.memory[offset + i] = data[i];
  }
}

void TestDevice::Reset() {
  std::lock_guard lock(mutex_);
  for (unsigned line = 0; line < kLines; ++line) SetLine(line, false);
  state_ = {};
}

TestDeviceState TestDevice::Save() const {
  std::lock_guard lock(mutex_);
  return state_;
}

vmm::Result<void> TestDevice::Load(const TestDeviceState& state) {
  bool possible = state.version == TestDeviceState::kVersion && state.lines >> kLines == 0;
  for (unsigned line = 0; possible && line < kLines; ++line) {
    possible = wires_[line] != nullptr || !(state.lines >> line & 1);
  }
  if (!possible) {
    return vmm::Fail(vmm::ExitCode::kConfigInvalid,
                     "testdev: the saved state is not one of the test device");
  }
  std::lock_guard lock(mutex_);
  state_ = state;
  for (unsigned line = 0; line < kLines; ++line) SetLine(line, state.lines >> line & 1);
  return {};
}

}  // namespace legacy
