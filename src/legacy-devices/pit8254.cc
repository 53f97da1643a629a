#include "legacy-devices/pit8254.h"

#include <algorithm>

namespace legacy {

using namespace pit;
using vmm::Nanoseconds;

namespace {

using Wide = __int128;
constexpr Wide kNanosecondsPerSecond = 1'000'000'000;

int64_t TicksOf(Nanoseconds time) {
  return static_cast<int64_t>(Wide{time.count()} * kHz / kNanosecondsPerSecond);
}
Nanoseconds DurationOf(int64_t ticks) {
  return Nanoseconds(static_cast<int64_t>((Wide{ticks} * kNanosecondsPerSecond + kHz - 1) / kHz));
}

}  // namespace

Pit8254::Pit8254(vmm::IrqLine& irq, const vmm::Clock& clock, vmm::TimerService& timers)
    : counter_ports_("pit", *this, &Pit8254::ReadCounters, &Pit8254::WriteCounters),
      port_b_("port-b", *this, &Pit8254::ReadPortB, &Pit8254::WritePortB),
      irq_(irq),
      clock_(clock) {
  timer_ = timers.NewTimer([this] { OnTimer(); });
  Reset();
}

int64_t Pit8254::Ticks() const {
  return TicksOf(clock_.Now()) + tick_offset_;
}

Nanoseconds Pit8254::TimeOfTick(int64_t tick) const {
  return DurationOf(tick - tick_offset_);
}

void Pit8254::Advance() {
  const int64_t now = Ticks();
  owed_ += counters_[0].Advance(now);
  counters_[1].Advance(now);
  counters_[2].Advance(now);
}

void Pit8254::Pulse(Nanoseconds now) {
  --owed_;
  irq_.Set(false);
  irq_.Set(true);
  // At twice the rate while more is owed.
  Nanoseconds gap = kMinInterval;
  if (owed_ > 0) gap = std::max(gap, DurationOf(counters_[0].Period()) / 2);
  not_before_ = now + gap;
}

void Pit8254::Settle() {
  const Nanoseconds now = clock_.Now();
  const int64_t period = counters_[0].Period();
  const int64_t most = period == 0 ? 1 : std::max<int64_t>(1, TicksOf(kLongestBacklog) / period);
  owed_ = std::min(owed_, most);
  if (owed_ > 0 && now >= not_before_) Pulse(now);
  if (owed_ > 0) return Arm(not_before_);
  const int64_t next = counters_[0].NextRise();
  if (next < 0) return Arm(std::nullopt);
  Arm(std::max(TimeOfTick(next), not_before_));
}

// Guests poll the chip in tight loops: the timer is left alone unless the deadline is another.
void Pit8254::Arm(std::optional<Nanoseconds> deadline) {
  if (deadline == armed_) return;
  armed_ = deadline;
  if (deadline) {
    timer_->Arm(*deadline);
  } else {
    timer_->Disarm();
  }
}

void Pit8254::OnTimer() {
  std::lock_guard lock(mutex_);
  armed_.reset();
  Advance();
  Settle();
}

void Pit8254::Reprogrammed() {
  owed_ = 0;
  not_before_ = clock_.Now();
  irq_.Set(counters_[0].Out());
}

void Pit8254::ReadCounters(uint64_t offset, std::span<uint8_t> data) {
  std::lock_guard lock(mutex_);
  Advance();
  for (size_t i = 0; i < data.size(); ++i) {
    const uint64_t at = offset + i;
    data[i] = at < kControlOffset ? counters_[at].Read() : 0xFF;  // the control word: write only
  }
  Settle();
}

void Pit8254::WriteCounters(uint64_t offset, std::span<const uint8_t> data) {
  std::lock_guard lock(mutex_);
  Advance();
  for (size_t i = 0; i < data.size(); ++i) {
    const uint64_t at = offset + i;
    if (at < kControlOffset) {
      counters_[at].Write(data[i]);
      // In modes 2 and 3 the old period runs to its end.
      if (at == 0 && counters_[0].Period() == 0) Reprogrammed();
    } else if (at == kControlOffset) {
      WriteControl(data[i]);
    }
  }
  Settle();
}

void Pit8254::WriteControl(uint8_t value) {
  const unsigned select = value >> 6;
  if (select == 3) {
    // A 0 latches.
    const vmm::BitRegister<ReadBack> command(value);
    for (unsigned i = 0; i < counters_.size(); ++i) {
      if (!(value >> (i + 1) & 1)) continue;
      if (!command.Has(ReadBack::COUNT)) counters_[i].LatchCount();
      if (!command.Has(ReadBack::STATUS)) counters_[i].LatchStatus();
    }
    return;
  }
  Pit8254Counter& counter = counters_[select];
  if (static_cast<Access>(value >> 4 & 3) == Access::kLatch) return counter.LatchCount();
  counter.WriteControl(value & kStoredControl);
  if (select == 0) Reprogrammed();
}

void Pit8254::ReadPortB(uint64_t, std::span<uint8_t> data) {
  std::lock_guard lock(mutex_);
  Advance();
  vmm::BitRegister<PortB> value = port_b_written_;
  value.Assign(PortB::TMR2_OUT_STS, counters_[2].Out());
  value.Assign(PortB::REF_TOGGLE, Ticks() / kRefreshTicks % 2 != 0);
  for (uint8_t& byte : data) byte = value.raw();
  Settle();
}

void Pit8254::WritePortB(uint64_t offset, std::span<const uint8_t> data) {
  if (offset != 0 || data.empty()) return;
  std::lock_guard lock(mutex_);
  Advance();
  port_b_written_ = vmm::BitRegister<PortB>(data[0] & kPortBWritable);
  counters_[2].SetGate(port_b_written_.Has(PortB::TIM_CNT2_EN));
  Settle();
}

bool Pit8254::SpeakerOn() const {
  std::lock_guard lock(mutex_);
  return port_b_written_.Has(PortB::SPKR_DAT_EN) && port_b_written_.Has(PortB::TIM_CNT2_EN);
}

void Pit8254::Reset() {
  std::lock_guard lock(mutex_);
  const int64_t now = Ticks();
  for (Pit8254Counter& counter : counters_) {
    Pit8254CounterState fresh;
    fresh.at = now;
    counter.Load(fresh);
  }
  port_b_written_ = {};
  counters_[2].SetGate(false);
  Reprogrammed();
  Settle();
}

Pit8254State Pit8254::Save() const {
  std::lock_guard lock(mutex_);
  Pit8254State state;
  state.ticks = Ticks();
  state.owed = owed_;
  state.port_b = port_b_written_;
  for (unsigned i = 0; i < counters_.size(); ++i) {
    Pit8254Counter counter = counters_[i];
    const int64_t rises = counter.Advance(state.ticks);
    if (i == 0) state.owed += rises;
    state.counters[i] = counter.state();
  }
  return state;
}

vmm::Result<void> Pit8254::Load(const Pit8254State& state) {
  bool possible = state.version == Pit8254State::kVersion && state.owed >= 0 &&
                  state.port_b.IsWithin(kPortBWritable);
  for (unsigned i = 0; i < counters_.size(); ++i) {
    const Pit8254CounterState& counter = state.counters[i];
    const bool gate = i < 2 || state.port_b.Has(PortB::TIM_CNT2_EN);
    possible = possible && Pit8254Counter::Possible(counter) && counter.at == state.ticks &&
               counter.gate == gate;
  }
  if (!possible) {
    return vmm::Fail(vmm::ExitCode::kConfigInvalid, "pit: the saved state is not one of an 8254");
  }
  std::lock_guard lock(mutex_);
  tick_offset_ = state.ticks - TicksOf(clock_.Now());
  for (unsigned i = 0; i < counters_.size(); ++i) counters_[i].Load(state.counters[i]);
  port_b_written_ = state.port_b;
  Reprogrammed();
  owed_ = state.owed;
  Settle();
  return {};
}

}  // namespace legacy
