// Real-time clock MC146818A with a PC's CMOS RAM.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>

#include "legacy-devices/rtc_mc146818_regs.h"
#include "vmm/core/base/bit_register.h"
#include "vmm/core/base/result.h"
#include "vmm/core/bus/device.h"
#include "vmm/core/irq/irq_line.h"
#include "vmm/core/time/clock.h"

namespace legacy {

// What firmware finds in CMOS RAM about the machine. Sizes in bytes.
struct CmosConfig {
  uint64_t memory_below_4g = 0;  // from address 0, the hole under 1 MiB included
  uint64_t memory_above_4g = 0;
  unsigned cpu_count = 1;
};

struct RtcMc146818State {
  static constexpr uint32_t kVersion = 1;
  uint32_t version = kVersion;
  std::array<uint8_t, rtc::kCmosSize>
      ram{};              // A, B and C where they belong; the time at `offset_ns`
  uint8_t index = 0;      // bit 7: NMI masked
  int64_t offset_ns = 0;  // guest's time of day less Clock::WallTime()
  friend bool operator==(const RtcMc146818State&, const RtcMc146818State&) = default;
};

// The time of day is Clock::WallTime() (UTC) plus what the guest has set it apart. Flags rise at
// their time; a timer runs only while an interrupt is enabled, otherwise they are found when read.
//
// Threads: everything from any thread.
class RtcMc146818 final : public vmm::Device {
 public:
  RtcMc146818(vmm::IrqLine& irq, const vmm::Clock& clock, vmm::TimerService& timers,
              const CmosConfig& config);

  std::string_view name() const override { return "rtc"; }
  void Read(uint64_t offset, std::span<uint8_t> data) override;
  void Write(uint64_t offset, std::span<const uint8_t> data) override;

  // RESET#: interrupts off; time, alarm and RAM stay. [MC146818] "RESET"
  void Reset();
  RtcMc146818State Save() const;
  vmm::Result<void> Load(const RtcMc146818State& state);

 private:
  uint8_t& At(rtc::Reg reg) { return state_.ram[static_cast<uint8_t>(reg)]; }
  uint8_t At(rtc::Reg reg) const { return state_.ram[static_cast<uint8_t>(reg)]; }
  vmm::BitRegister<rtc::B> b() const { return vmm::BitRegister<rtc::B>(At(rtc::Reg::B)); }
  bool Running() const;

  uint8_t ReadByte(uint8_t index);
  void WriteByte(uint8_t index, uint8_t value);
  int64_t TimeOfDay() const;  // ns since the epoch, as the guest has set it
  int64_t Period() const;     // ns between periodic interrupts, 0 = none
  void ShowTime();
  void TakeTime();
  uint8_t Encode(unsigned value) const;
  unsigned Decode(uint8_t value) const;
  uint8_t EncodeHour(unsigned hour) const;
  unsigned DecodeHour(uint8_t value) const;
  bool AlarmBetween(int64_t after_second, int64_t to_second) const;
  void CatchUp();
  void Settle();
  void OnTimer();
  void RestartFlags();

  vmm::IrqLine& irq_;
  const vmm::Clock& clock_;

  mutable std::mutex mutex_;  // guards all below
  RtcMc146818State state_;
  int64_t flags_until_ = 0;  // time of day up to which flags in C have been raised
  bool level_ = false;
  std::unique_ptr<vmm::Timer> timer_;  // last: its destructor waits for the callback
};

}  // namespace legacy
