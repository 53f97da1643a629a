// ACPI fixed hardware of the PIIX4: power button, sleep control, PM timer, general-purpose events,
// and the APM ports that switch ACPI on.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>

#include "legacy-devices/acpi_pm_regs.h"
#include "vmm/core/base/bit_register.h"
#include "vmm/core/base/result.h"
#include "vmm/core/bus/device_part.h"
#include "vmm/core/irq/irq_line.h"
#include "vmm/core/time/clock.h"

namespace legacy {

struct AcpiPmState {
  static constexpr uint32_t kVersion = 1;
  uint32_t version = kVersion;
  vmm::BitRegister<acpi_pm::PM1_STS> PM1_STS;
  vmm::BitRegister<acpi_pm::PM1_EN> PM1_EN;
  vmm::BitRegister<acpi_pm::PM1_CNT> PM1_CNT;
  uint64_t timer_ticks = 0;                      // PM timer, with the bits that have overflowed
  uint64_t next_change = acpi_pm::kPmTimerHalf;  // ticks at which TMR_STS is set next
  uint16_t GPE0_STS = 0;
  uint16_t GPE0_EN = 0;
  uint8_t APMC = 0;
  uint8_t APMS = 0;
  friend bool operator==(const AcpiPmState&, const AcpiPmState&) = default;
};

// The system control interrupt (SCI) is a level: high while an enabled status bit is set and SCI_EN
// is. There is no SMM: events raise nothing before ACPI is enabled, but stay pending.
//
// Threads: everything from any thread. The power-off callback runs on the vCPU thread that wrote
// SLP_EN, with no lock held; the guest goes on until the machine stops it.
class AcpiPm final {
 public:
  AcpiPm(vmm::IrqLine& sci, const vmm::Clock& clock, vmm::TimerService& timers,
         std::function<void()> power_off);

  vmm::Device& pm_block() { return pm_block_; }      // kPmBlockSize ports
  vmm::Device& gpe0_block() { return gpe0_block_; }  // kGpe0BlockSize ports
  vmm::Device& apm_ports() { return apm_ports_; }    // kApmSize ports at kApmBase

  void PressPowerButton();
  void RaiseGpe(unsigned event);  // below kGpeCount

  void Reset();
  AcpiPmState Save() const;
  vmm::Result<void> Load(const AcpiPmState& state);

 private:
  void ReadPm(uint64_t offset, std::span<uint8_t> data);
  void WritePm(uint64_t offset, std::span<const uint8_t> data);
  void ReadGpe0(uint64_t offset, std::span<uint8_t> data);
  void WriteGpe0(uint64_t offset, std::span<const uint8_t> data);
  void ReadApm(uint64_t offset, std::span<uint8_t> data);
  void WriteApm(uint64_t offset, std::span<const uint8_t> data);

  bool WriteControl(uint64_t byte, uint8_t value);
  uint64_t Ticks() const;
  vmm::Nanoseconds TimeOfTick(uint64_t tick) const;
  bool SciLevel() const;
  void Settle();
  void OnTimer();

  vmm::DevicePart<AcpiPm> pm_block_;
  vmm::DevicePart<AcpiPm> gpe0_block_;
  vmm::DevicePart<AcpiPm> apm_ports_;
  vmm::IrqLine& sci_;
  const vmm::Clock& clock_;
  const std::function<void()> power_off_;

  mutable std::mutex mutex_;  // guards all below
  AcpiPmState state_;
  uint64_t tick_offset_ = 0;  // added to the clock's ticks; wraps
  bool sci_level_ = false;
  std::unique_ptr<vmm::Timer> timer_;  // last: its destructor waits for the callback
};

}  // namespace legacy
