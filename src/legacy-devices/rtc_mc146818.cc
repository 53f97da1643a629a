#include "legacy-devices/rtc_mc146818.h"

#include <algorithm>
#include <chrono>

namespace legacy {

using namespace rtc;
using vmm::Nanoseconds;

namespace {

constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kDay = 86'400;

constexpr int64_t FloorDivide(int64_t value, int64_t by) {
  return value / by - (value % by < 0 ? 1 : 0);
}

constexpr uint8_t Index(Reg reg) {
  return static_cast<uint8_t>(reg);
}

bool IsTime(uint8_t index) {
  return (index <= Index(Reg::YEAR) && (index & 1) == 0) || index == Index(Reg::DATE_OF_MONTH) ||
         index == Index(Reg::YEAR) || index == Index(Reg::CENTURY);
}

}  // namespace

RtcMc146818::RtcMc146818(vmm::IrqLine& irq, const vmm::Clock& clock, vmm::TimerService& timers,
                         const CmosConfig& config)
    : irq_(irq), clock_(clock) {
  constexpr uint64_t kUnit = 64 * 1024;
  const auto put = [this](Reg reg, uint64_t value, unsigned bytes) {
    for (unsigned i = 0; i < bytes; ++i) {
      state_.ram[Index(reg) + i] = static_cast<uint8_t>(value >> (8 * i));
    }
  };
  const uint64_t below = config.memory_below_4g;
  const uint64_t extended = below > 1024 * 1024 ? below / 1024 - 1024 : 0;
  put(Reg::BASE_MEMORY, 640, 2);
  put(Reg::EXTENDED_MEMORY, std::min<uint64_t>(extended, 63 * 1024), 2);
  put(Reg::EXTENDED_MEMORY_POST, std::min<uint64_t>(extended, 63 * 1024), 2);
  put(Reg::MEMORY_ABOVE_16M,
      below > 256 * kUnit ? std::min<uint64_t>(below / kUnit - 256, 0xffff) : 0, 2);
  put(Reg::MEMORY_ABOVE_4G, config.memory_above_4g / kUnit, 3);
  put(Reg::CPU_COUNT_LESS_ONE, config.cpu_count - 1, 1);
  At(Reg::A) = kDvRunning | 6;  // 1024 Hz, as firmware leaves it
  At(Reg::B) = static_cast<uint8_t>(B::H24);
  At(Reg::D) = kDValid;
  flags_until_ = TimeOfDay();
  timer_ = timers.NewTimer([this] { OnTimer(); });
}

bool RtcMc146818::Running() const {
  return (At(Reg::A) & static_cast<uint8_t>(A::DV)) == kDvRunning && !b().Has(B::SET);
}

int64_t RtcMc146818::TimeOfDay() const {
  return clock_.WallTime().count() + state_.offset_ns;
}

// [MC146818] table 5: rates 1 and 2 repeat 8 and 9 with the 32.768 kHz base.
int64_t RtcMc146818::Period() const {
  unsigned rate = At(Reg::A) & static_cast<uint8_t>(A::RS);
  if (rate == 0 || (At(Reg::A) & static_cast<uint8_t>(A::DV)) != kDvRunning) return 0;
  if (rate < 3) rate += 7;
  return (kSecond << (rate - 1)) / 32768;
}

uint8_t RtcMc146818::Encode(unsigned value) const {
  return static_cast<uint8_t>(b().Has(B::DM) ? value : value / 10 * 16 + value % 10);
}

unsigned RtcMc146818::Decode(uint8_t value) const {
  return b().Has(B::DM) ? value : (value >> 4) * 10u + (value & 15);
}

// 12-hour form: 12, 1 .. 11 with bit 7 in the afternoon.
uint8_t RtcMc146818::EncodeHour(unsigned hour) const {
  if (b().Has(B::H24)) return Encode(hour);
  return static_cast<uint8_t>(Encode(hour % 12 == 0 ? 12 : hour % 12) | (hour >= 12 ? 0x80 : 0));
}

unsigned RtcMc146818::DecodeHour(uint8_t value) const {
  if (b().Has(B::H24)) return Decode(value);
  return Decode(value & 0x7f) % 12 + (value & 0x80 ? 12 : 0);
}

// Puts the time of day into the registers.
void RtcMc146818::ShowTime() {
  const int64_t seconds = FloorDivide(TimeOfDay(), kSecond);
  const int64_t days = FloorDivide(seconds, kDay);
  const auto in_day = static_cast<unsigned>(seconds - days * kDay);
  const std::chrono::sys_days date{std::chrono::days(days)};
  const std::chrono::year_month_day civil(date);
  const int year = static_cast<int>(civil.year());
  At(Reg::SECONDS) = Encode(in_day % 60);
  At(Reg::MINUTES) = Encode(in_day / 60 % 60);
  At(Reg::HOURS) = EncodeHour(in_day / 3600);
  At(Reg::DAY_OF_WEEK) = Encode(std::chrono::weekday(date).c_encoding() + 1);
  At(Reg::DATE_OF_MONTH) = Encode(static_cast<unsigned>(civil.day()));
  At(Reg::MONTH) = Encode(static_cast<unsigned>(civil.month()));
  At(Reg::YEAR) = Encode(static_cast<unsigned>(year % 100));
  At(Reg::CENTURY) = Encode(static_cast<unsigned>(year / 100 % 100));
}

// Takes the time of day from the registers. What is no date counts on from one that is.
void RtcMc146818::TakeTime() {
  const int year = static_cast<int>(Decode(At(Reg::CENTURY)) * 100 + Decode(At(Reg::YEAR)));
  const unsigned month = std::clamp(Decode(At(Reg::MONTH)), 1u, 12u);
  const std::chrono::sys_days first =
      std::chrono::year(year) / std::chrono::month(month) / std::chrono::day(1);
  const int64_t days = first.time_since_epoch().count() + Decode(At(Reg::DATE_OF_MONTH)) - 1;
  const int64_t seconds = days * kDay + DecodeHour(At(Reg::HOURS)) * 3600 +
                          Decode(At(Reg::MINUTES)) * 60 + Decode(At(Reg::SECONDS));
  // A year of CMOS garbage (up to 16500) must not overflow nanoseconds: such a date is not taken.
  if (year < 1800 || year > 2200) return RestartFlags();
  const int64_t now = TimeOfDay();
  const int64_t part = now - FloorDivide(now, kSecond) * kSecond;
  state_.offset_ns += seconds * kSecond + part - now;
  RestartFlags();
}

// Does the alarm match in a second after `after`, up to `to`? [MC146818] "TIME, CALENDAR, AND
// ALARM"
bool RtcMc146818::AlarmBetween(int64_t after, int64_t to) const {
  const auto matches = [this](Reg reg, unsigned value, bool hour) {
    const uint8_t alarm = At(reg);
    if ((alarm & kAlarmDontCare) == kAlarmDontCare) return true;
    return (hour ? DecodeHour(alarm) : Decode(alarm)) == value;
  };
  for (int64_t second = std::max(after + 1, to - kDay + 1); second <= to; ++second) {
    const auto in_day = static_cast<unsigned>(second - FloorDivide(second, kDay) * kDay);
    if (matches(Reg::SECONDS_ALARM, in_day % 60, false) &&
        matches(Reg::MINUTES_ALARM, in_day / 60 % 60, false) &&
        matches(Reg::HOURS_ALARM, in_day / 3600, true)) {
      return true;
    }
  }
  return false;
}

void RtcMc146818::RestartFlags() {
  flags_until_ = TimeOfDay();
}

// Raises the flags that have become due.
void RtcMc146818::CatchUp() {
  const int64_t now = TimeOfDay(), before = flags_until_;
  if (now < before) return RestartFlags();  // the host's wall clock was set back
  uint8_t flags = 0;
  if (const int64_t period = Period();
      period && FloorDivide(now, period) != FloorDivide(before, period)) {
    flags |= static_cast<uint8_t>(C::PF);
  }
  const int64_t second = FloorDivide(now, kSecond), old_second = FloorDivide(before, kSecond);
  if (second != old_second && Running()) {
    flags |= static_cast<uint8_t>(C::UF);
    if (!(At(Reg::C) & static_cast<uint8_t>(C::AF)) && AlarmBetween(old_second, second)) {
      flags |= static_cast<uint8_t>(C::AF);
    }
  }
  At(Reg::C) |= flags;
  flags_until_ = now;
}

// The interrupt line and the timer, after anything changed.
void RtcMc146818::Settle() {
  constexpr uint8_t kEnables = vmm::BitRegister<B>::Mask(B::PIE, B::AIE, B::UIE);
  const bool level = At(Reg::C) & At(Reg::B) & kEnables;
  if (level) At(Reg::C) |= static_cast<uint8_t>(C::IRQF);
  if (level != level_) {
    level_ = level;
    irq_.Set(level);
  }
  const int64_t now = TimeOfDay();
  int64_t next = 0;
  const int64_t period = Period();
  if (b().Has(B::PIE) && period) next = (FloorDivide(now, period) + 1) * period;
  if (b().Has(B::AIE, B::UIE) && Running()) {
    const int64_t update = (FloorDivide(now, kSecond) + 1) * kSecond;
    next = next ? std::min(next, update) : update;
  }
  // While the line is up nothing more can come through it.
  if (next == 0 || level)
    timer_->Disarm();
  else
    timer_->Arm(clock_.Now() + Nanoseconds(next - now));
}

void RtcMc146818::OnTimer() {
  std::lock_guard lock(mutex_);
  CatchUp();
  Settle();
}

uint8_t RtcMc146818::ReadByte(uint8_t index) {
  CatchUp();
  if (IsTime(index) && Running()) ShowTime();
  switch (static_cast<Reg>(index)) {
    case Reg::A: {
      const int64_t now = TimeOfDay();
      const int64_t left = (FloorDivide(now, kSecond) + 1) * kSecond - now;
      const bool updating = Running() && left <= kUipLead;
      return static_cast<uint8_t>(At(Reg::A) | (updating ? static_cast<uint8_t>(A::UIP) : 0));
    }
    case Reg::C: {  // reading clears it
      const uint8_t value = At(Reg::C);
      At(Reg::C) = 0;
      Settle();
      return value;
    }
    default:
      return state_.ram[index];
  }
}

void RtcMc146818::WriteByte(uint8_t index, uint8_t value) {
  CatchUp();
  switch (static_cast<Reg>(index)) {
    case Reg::A:
      At(Reg::A) = value & static_cast<uint8_t>(~static_cast<uint8_t>(A::UIP));
      RestartFlags();
      break;
    case Reg::B: {
      const bool was_set = b().Has(B::SET);
      if (Running()) ShowTime();
      vmm::BitRegister<B> written(value);
      if (written.Has(B::SET)) written.Clear(B::UIE);
      At(Reg::B) = written.raw();
      if (was_set && !written.Has(B::SET)) TakeTime();
      break;
    }
    case Reg::C:
    case Reg::D:
      return;  // read-only
    default:
      if (IsTime(index) && Running()) {
        ShowTime();
        state_.ram[index] = value;
        TakeTime();
      } else {
        state_.ram[index] = value;
      }
  }
  Settle();
}

void RtcMc146818::Read(uint64_t offset, std::span<uint8_t> data) {
  std::lock_guard lock(mutex_);
  for (size_t i = 0; i < data.size(); ++i) {
    data[i] = offset + i == 1 ? ReadByte(state_.index & 0x7f) : 0xff;  // the index can't be read
  }
}

void RtcMc146818::Write(uint64_t offset, std::span<const uint8_t> data) {
  std::lock_guard lock(mutex_);
  for (size_t i = 0; i < data.size(); ++i) {
    if (offset + i == 0) state_.index = data[i];
    if (offset + i == 1) WriteByte(state_.index & 0x7f, data[i]);
  }
}

void RtcMc146818::Reset() {
  std::lock_guard lock(mutex_);
  vmm::BitRegister<B> kept = b();
  kept.Clear(B::PIE, B::AIE, B::UIE, B::SQWE);
  At(Reg::B) = kept.raw();
  At(Reg::C) = 0;
  state_.index = 0;
  Settle();
}

RtcMc146818State RtcMc146818::Save() const {
  std::lock_guard lock(mutex_);
  return state_;
}

vmm::Result<void> RtcMc146818::Load(const RtcMc146818State& state) {
  constexpr uint8_t kFlags = vmm::BitRegister<C>::Mask(C::IRQF, C::PF, C::AF, C::UF);
  constexpr int64_t kMostOffset = int64_t{10000} * 366 * kDay / 40 * kSecond;  // 250 years
  const bool possible = state.version == RtcMc146818State::kVersion &&
                        !(state.ram[Index(Reg::A)] & static_cast<uint8_t>(A::UIP)) &&
                        !(state.ram[Index(Reg::C)] & ~kFlags) &&
                        state.ram[Index(Reg::D)] == kDValid && state.offset_ns < kMostOffset &&
                        state.offset_ns > -kMostOffset;
  if (!possible) {
    return vmm::Fail(vmm::ExitCode::kConfigInvalid,
                     "rtc: the saved state is not one of an MC146818");
  }
  std::lock_guard lock(mutex_);
  state_ = state;
  RestartFlags();
  level_ = false;
  irq_.Set(false);  // whatever it was before
  Settle();
  return {};
}

}  // namespace legacy
