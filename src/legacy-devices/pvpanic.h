// The pvpanic port: a guest kernel says that it panicked. [PVPANIC]
#pragma once

#include <cstdint>
#include <functional>
#include <utility>

#include "vmm/core/base/bit_register.h"
#include "vmm/core/bus/device.h"

namespace legacy {

// Reading gives the events that can be reported, writing reports them. No state.
// Threads: any; the callback runs on the vCPU thread that wrote, and the guest goes on.
class PvPanic final : public vmm::Device {
 public:
  static constexpr uint16_t kPort = 0x505;
  static constexpr uint64_t kSize = 1;

  enum class Event : uint8_t {
    Panicked = 0x01,
    CrashLoaded = 0x02,  // the guest goes on with its own crash kernel
  };
  using Events = vmm::BitRegister<Event>;
  static constexpr Events kSupported = Events::Of(Event::Panicked, Event::CrashLoaded);

  explicit PvPanic(std::function<void(Events)> report) : report_(std::move(report)) {}

  std::string_view name() const override { return "pvpanic"; }
  void Read(uint64_t offset, std::span<uint8_t> data) override;
  void Write(uint64_t offset, std::span<const uint8_t> data) override;

 private:
  const std::function<void(Events)> report_;
};

}  // namespace legacy
