// High precision event timers: a 64-bit counter at 100 MHz and three comparators. [HPET]
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string_view>

#include "legacy-devices/hpet_regs.h"
#include "vmm/core/base/bit_register.h"
#include "vmm/core/base/result.h"
#include "vmm/core/bus/device.h"
#include "vmm/core/irq/irq_line.h"
#include "vmm/core/irq/irq_switch.h"
#include "vmm/core/time/clock.h"
#include "vmm/core/time/owed_ticks.h"

namespace legacy {

struct HpetTimerState {
  vmm::BitRegister<hpet::CONF> CONF;  // within kConfMask
  uint64_t COMP = ~uint64_t{0};
  uint64_t period = 0;  // what was last written to COMP in periodic mode
  int64_t owed = 0;     // interrupts that the host was too late for
  bool met = false;     // MAIN_CNT itself has been compared, the next match is a later one
  friend bool operator==(const HpetTimerState&, const HpetTimerState&) = default;
};

struct HpetState {
  static constexpr uint32_t kVersion = 1;
  uint32_t version = kVersion;
  vmm::BitRegister<hpet::GEN_CONF> GEN_CONF;
  uint64_t GINTR_STA = 0;
  uint64_t MAIN_CNT = 0;  // at the moment of saving
  std::array<HpetTimerState, hpet::kTimers> timers;
  friend bool operator==(const HpetState&, const HpetState&) = default;
};

// Every timer can be periodic and of 64 or 32 bits. There are no message interrupts (FSB).
//
// An edge interrupt is a pulse. Late ones of a periodic timer follow by the rule of OwedTicks, the
// level-triggered ones each after the guest has cleared the one before.
//
// Registers are meant to be read and written as 4 or 8 aligned bytes; other accesses work on the
// bytes that they name.
//
// Threads: everything from any thread.
class Hpet final : public vmm::Device {
 public:
  static constexpr vmm::Nanoseconds kMinInterval{100'000};

  struct Wires {
    // A line of its own for each timer and each pin from kFirstRoute on.
    std::array<std::array<vmm::IrqLine*, hpet::kRoutes>, hpet::kTimers> pins;
    vmm::IrqSwitch& irq0;  // first: the 8254
    vmm::IrqSwitch& irq8;  // first: the RTC
  };

  Hpet(const Wires& wires, const vmm::Clock& clock, vmm::TimerService& timers);

  std::string_view name() const override { return "hpet"; }
  void Read(uint64_t offset, std::span<uint8_t> data) override;
  void Write(uint64_t offset, std::span<const uint8_t> data) override;

  void Reset();
  HpetState Save() const;
  vmm::Result<void> Load(const HpetState& state);

 private:
  struct Timer {
    HpetTimerState state;
    vmm::OwedTicks owed{kMinInterval};
    uint64_t from = 0;                 // matches count from this value of the counter on
    vmm::IrqLine* asserted = nullptr;  // by a level
  };

  // With the lock held.
  uint64_t ReadRegister(uint64_t offset) const;
  void WriteRegister(uint64_t offset, uint64_t value, uint64_t mask);
  void WriteGeneral(uint64_t value);
  void WriteConfiguration(Timer& timer, uint64_t value);
  void WriteComparator(Timer& timer, uint64_t value, uint64_t mask);
  bool Running() const { return general_.Has(hpet::GEN_CONF::ENABLE_CNF); }
  uint64_t Counter() const { return CounterAt(now_); }
  uint64_t CounterAt(vmm::Nanoseconds now) const;
  void SetCounter(uint64_t value);
  void Advance();  // to the present: comparators that the counter has met
  static void AdvanceTimer(Timer& timer, uint64_t counter);
  void Settle();  // interrupts what is due, sets wires and the host's timer
  void Interrupt(unsigned index);
  std::optional<vmm::Nanoseconds> NextInterrupt(const Timer& timer, unsigned index) const;
  vmm::IrqLine* Wire(unsigned index) const;  // where timer `index` interrupts, if anywhere
  void OnTimer();

  const Wires wires_;
  const vmm::Clock& clock_;

  mutable std::mutex mutex_;  // guards all below
  vmm::Nanoseconds now_{0};   // of the access or timer that is being served
  vmm::BitRegister<hpet::GEN_CONF> general_;
  uint64_t status_ = 0;             // GINTR_STA
  uint64_t counter_ = 0;            // at `counter_at_`, or as it stands still
  vmm::Nanoseconds counter_at_{0};  // a time at which it changed
  std::array<Timer, hpet::kTimers> timers_;
  std::optional<vmm::Nanoseconds> armed_;  // what timer_ is set to
  std::unique_ptr<vmm::Timer> timer_;      // last: its destructor waits for the callback
};

}  // namespace legacy
