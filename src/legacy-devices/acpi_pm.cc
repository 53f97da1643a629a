#include "legacy-devices/acpi_pm.h"

#include <utility>

#include "vmm/core/base/bytes.h"

namespace legacy {

using namespace acpi_pm;
using vmm::ByteOf;
using vmm::Nanoseconds;
using vmm::WithByte;

namespace {

constexpr unsigned __int128 kNanosecondsPerSecond = 1'000'000'000;

uint64_t TicksOf(Nanoseconds time) {
  return static_cast<uint64_t>(static_cast<unsigned __int128>(time.count()) * kPmTimerHz /
                               kNanosecondsPerSecond);
}

// Advances the timer; TMR_STS is set whenever its top bit changes. [ACPI] 4.8.3.3
void Advance(AcpiPmState& s, uint64_t ticks) {
  s.timer_ticks = ticks;
  if (ticks < s.next_change) return;
  s.PM1_STS.Set(PM1_STS::TMR_STS);
  s.next_change = (ticks / kPmTimerHalf + 1) * kPmTimerHalf;
}

bool Possible(const AcpiPmState& s) {
  return s.version == AcpiPmState::kVersion && s.PM1_STS.IsWithin(kPm1StsMask) &&
         s.PM1_EN.IsWithin(kPm1EnMask) && s.PM1_CNT.IsWithin(kPm1CntStored) &&
         s.timer_ticks < (uint64_t{1} << 63) && s.timer_ticks < s.next_change &&
         s.next_change - s.timer_ticks <= kPmTimerHalf && s.next_change % kPmTimerHalf == 0;
}

}  // namespace

AcpiPm::AcpiPm(vmm::IrqLine& sci, const vmm::Clock& clock, vmm::TimerService& timers,
               std::function<void()> power_off)
    : pm_block_("acpi-pm", *this, &AcpiPm::ReadPm, &AcpiPm::WritePm),
      gpe0_block_("acpi-gpe0", *this, &AcpiPm::ReadGpe0, &AcpiPm::WriteGpe0),
      apm_ports_("acpi-apm", *this, &AcpiPm::ReadApm, &AcpiPm::WriteApm),
      sci_(sci),
      clock_(clock),
      power_off_(std::move(power_off)) {
  timer_ = timers.NewTimer([this] { OnTimer(); });
}

void AcpiPm::ReadPm(uint64_t offset, std::span<uint8_t> data) {
  std::lock_guard lock(mutex_);
  Advance(state_, Ticks());
  const auto timer = static_cast<uint32_t>(state_.timer_ticks);  // once: all bytes of one moment
  for (size_t i = 0; i < data.size(); ++i) {
    const uint64_t at = offset + i;
    switch (at & ~uint64_t{1}) {
      case static_cast<uint64_t>(Reg::PM1_STS):
        data[i] = ByteOf(state_.PM1_STS.raw(), at & 1);
        break;
      case static_cast<uint64_t>(Reg::PM1_EN):
        data[i] = ByteOf(state_.PM1_EN.raw(), at & 1);
        break;
      case static_cast<uint64_t>(Reg::PM1_CNT):
        data[i] = ByteOf(state_.PM1_CNT.raw(), at & 1);
        break;
      case static_cast<uint64_t>(Reg::PM_TMR):
      case static_cast<uint64_t>(Reg::PM_TMR) + 2:
        data[i] = ByteOf(timer, at & 3);
        break;
      default:
        data[i] = 0;
    }
  }
}

void AcpiPm::WritePm(uint64_t offset, std::span<const uint8_t> data) {
  bool power_off = false;
  {
    std::lock_guard lock(mutex_);
    Advance(state_, Ticks());
    for (size_t i = 0; i < data.size(); ++i) {
      const uint64_t at = offset + i;
      const uint64_t byte = at & 1;
      switch (at & ~uint64_t{1}) {
        case static_cast<uint64_t>(Reg::PM1_STS):
          state_.PM1_STS = vmm::BitRegister<PM1_STS>(
              static_cast<uint16_t>(state_.PM1_STS.raw() & ~WithByte<uint16_t>(0, byte, data[i])));
          break;
        case static_cast<uint64_t>(Reg::PM1_EN):
          state_.PM1_EN =
              vmm::BitRegister<PM1_EN>(WithByte(state_.PM1_EN.raw(), byte, data[i]) & kPm1EnMask);
          break;
        case static_cast<uint64_t>(Reg::PM1_CNT):
          power_off |= WriteControl(byte, data[i]);
          break;
        default:
          break;
      }
    }
    Settle();
  }
  if (power_off) power_off_();
}

// True if the guest asks for S5. Any other sleep state isn't offered: the guest wakes at once.
// [ACPI] 4.8.3.2.1, 16.1
bool AcpiPm::WriteControl(uint64_t byte, uint8_t value) {
  const uint16_t fixed = state_.PM1_CNT.Field(kPm1CntStored & ~kPm1CntWritable);
  const vmm::BitRegister<PM1_CNT> written(WithByte(state_.PM1_CNT.raw(), byte, value));
  state_.PM1_CNT =
      vmm::BitRegister<PM1_CNT>(static_cast<uint16_t>(written.Field(kPm1CntWritable) | fixed));
  if (!written.Has(PM1_CNT::SLP_EN)) return false;
  const auto type =
      static_cast<uint8_t>(written.Field(static_cast<uint16_t>(PM1_CNT::SLP_TYP)) >> 10);
  if (type == kSlpTypSoftOff) return true;
  state_.PM1_STS.Set(PM1_STS::WAK_STS);
  return false;
}

void AcpiPm::ReadGpe0(uint64_t offset, std::span<uint8_t> data) {
  std::lock_guard lock(mutex_);
  for (size_t i = 0; i < data.size(); ++i) {
    const uint64_t at = offset + i;
    data[i] = at >= kGpe0BlockSize ? 0 : ByteOf(at < 2 ? state_.GPE0_STS : state_.GPE0_EN, at & 1);
  }
}

void AcpiPm::WriteGpe0(uint64_t offset, std::span<const uint8_t> data) {
  std::lock_guard lock(mutex_);
  for (size_t i = 0; i < data.size(); ++i) {
    const uint64_t at = offset + i;
    if (at >= kGpe0BlockSize) break;
    if (at < 2)
      state_.GPE0_STS =
          static_cast<uint16_t>(state_.GPE0_STS & ~WithByte<uint16_t>(0, at, data[i]));
    else
      state_.GPE0_EN = WithByte(state_.GPE0_EN, at & 1, data[i]);
  }
  Settle();
}

void AcpiPm::ReadApm(uint64_t offset, std::span<uint8_t> data) {
  std::lock_guard lock(mutex_);
  for (size_t i = 0; i < data.size(); ++i)
    data[i] = offset + i == 0 ? state_.APMC : offset + i == 1 ? state_.APMS : 0xFF;
}

// What SMM code would do on a PC: the guest's firmware is told to hand over or to take back the
// fixed hardware. [ACPI] 4.8.2.5
void AcpiPm::WriteApm(uint64_t offset, std::span<const uint8_t> data) {
  std::lock_guard lock(mutex_);
  Advance(state_, Ticks());
  for (size_t i = 0; i < data.size(); ++i) {
    if (offset + i == static_cast<uint64_t>(ApmReg::APMC)) {
      state_.APMC = data[i];
      if (data[i] == kAcpiEnable) state_.PM1_CNT.Set(PM1_CNT::SCI_EN);
      if (data[i] == kAcpiDisable) state_.PM1_CNT.Clear(PM1_CNT::SCI_EN);
    } else if (offset + i == static_cast<uint64_t>(ApmReg::APMS)) {
      state_.APMS = data[i];
    }
  }
  Settle();
}

uint64_t AcpiPm::Ticks() const {
  return TicksOf(clock_.Now()) + tick_offset_;
}

// The earliest time at which Ticks() has reached `tick`.
Nanoseconds AcpiPm::TimeOfTick(uint64_t tick) const {
  const unsigned __int128 from_start = tick - tick_offset_;
  return Nanoseconds(
      static_cast<int64_t>((from_start * kNanosecondsPerSecond + kPmTimerHz - 1) / kPmTimerHz));
}

bool AcpiPm::SciLevel() const {
  if (!state_.PM1_CNT.Has(PM1_CNT::SCI_EN)) return false;
  return (state_.PM1_STS.raw() & state_.PM1_EN.raw()) != 0 ||
         (state_.GPE0_STS & state_.GPE0_EN) != 0;
}

void AcpiPm::Settle() {
  const bool level = SciLevel();
  if (level != sci_level_) {
    sci_level_ = level;
    sci_.Set(level);
  }
  if (state_.PM1_EN.Has(PM1_EN::TMR_EN) && state_.PM1_CNT.Has(PM1_CNT::SCI_EN))
    timer_->Arm(TimeOfTick(state_.next_change));
  else
    timer_->Disarm();
}

void AcpiPm::OnTimer() {
  std::lock_guard lock(mutex_);
  Advance(state_, Ticks());
  Settle();
}

void AcpiPm::PressPowerButton() {
  std::lock_guard lock(mutex_);
  state_.PM1_STS.Set(PM1_STS::PWRBTN_STS);
  Settle();
}

void AcpiPm::RaiseGpe(unsigned event) {
  std::lock_guard lock(mutex_);
  state_.GPE0_STS = static_cast<uint16_t>(state_.GPE0_STS | 1u << (event % kGpeCount));
  Settle();
}

// The PM timer runs on.
void AcpiPm::Reset() {
  std::lock_guard lock(mutex_);
  Advance(state_, Ticks());
  AcpiPmState fresh;
  fresh.timer_ticks = state_.timer_ticks;
  fresh.next_change = state_.next_change;
  state_ = fresh;
  Settle();
}

AcpiPmState AcpiPm::Save() const {
  std::lock_guard lock(mutex_);
  AcpiPmState saved = state_;
  Advance(saved, Ticks());
  return saved;
}

vmm::Result<void> AcpiPm::Load(const AcpiPmState& state) {
  if (!Possible(state))
    return vmm::Fail(vmm::ExitCode::kConfigInvalid,
                     "acpi-pm: the saved state is not one of the PIIX4's power management");
  std::lock_guard lock(mutex_);
  state_ = state;
  tick_offset_ = state.timer_ticks - TicksOf(clock_.Now());
  sci_level_ = SciLevel();
  sci_.Set(sci_level_);  // whatever it was before
  Settle();
  return {};
}

}  // namespace legacy
