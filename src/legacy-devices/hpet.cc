#include "legacy-devices/hpet.h"

#include <algorithm>

#include "vmm/core/base/bytes.h"

namespace legacy {

using namespace hpet;
using vmm::Nanoseconds;

namespace {

// What is further away than this many ticks (182 years) needs no timer.
constexpr uint64_t kNever = uint64_t{1} << 59;

uint64_t SizeMask(const HpetTimerState& timer) {
  return timer.CONF.Has(CONF::MODE32_CNF) ? 0xFFFFFFFF : ~uint64_t{0};
}
bool Periodic(const HpetTimerState& timer) {
  return timer.CONF.Has(CONF::TYPE_CNF) && timer.period != 0;
}
Nanoseconds PeriodOf(const HpetTimerState& timer) {
  if (!Periodic(timer) || timer.period >= kNever) return Nanoseconds(0);
  return Nanoseconds(static_cast<int64_t>(timer.period) * kTickNs);
}
// A match has an effect: an edge, or a status bit, which a level shows even while it is masked.
bool Interrupts(const HpetTimerState& timer) {
  return timer.CONF.Has(CONF::INT_ENB_CNF, CONF::INT_TYPE_CNF);
}
unsigned RouteOf(vmm::BitRegister<CONF> configuration) {
  return static_cast<unsigned>(configuration.Field(static_cast<uint64_t>(CONF::INT_ROUTE_CNF)) >>
                               kRouteShift);
}
bool RoutePossible(unsigned route) {
  return route >= kFirstRoute && route < kFirstRoute + kRoutes;
}

}  // namespace

Hpet::Hpet(const Wires& wires, const vmm::Clock& clock, vmm::TimerService& timers)
    : wires_(wires), clock_(clock) {
  timer_ = timers.NewTimer([this] { OnTimer(); });
}

uint64_t Hpet::CounterAt(Nanoseconds now) const {
  if (!Running()) return counter_;
  return counter_ + static_cast<uint64_t>((now - counter_at_).count() / kTickNs);
}

void Hpet::SetCounter(uint64_t value) {
  counter_ = value;
  counter_at_ = now_;
}

// How often the counter has met the comparator from `from` to `counter`. A comparator that was
// passed is met when the counter, or its lower half, comes round again. [HPET] 2.3.9.2
void Hpet::AdvanceTimer(Timer& timer, uint64_t counter) {
  HpetTimerState& state = timer.state;
  if (timer.from == counter + 1) return;  // not a tick has passed
  const uint64_t first = (state.COMP - timer.from) & SizeMask(state);
  const uint64_t passed = counter - timer.from;
  timer.from = counter + 1;
  if (first > passed) return;
  uint64_t matches = 1;
  if (Periodic(state)) {
    matches += (passed - first) / state.period;
    state.COMP = (state.COMP + matches * state.period) & SizeMask(state);
  }
  if (!Interrupts(state)) return;
  timer.owed.Add(static_cast<int64_t>(std::min<uint64_t>(matches, INT64_MAX)), PeriodOf(state));
}

void Hpet::Advance() {
  if (!Running()) return;
  for (Timer& timer : timers_) AdvanceTimer(timer, Counter());
}

vmm::IrqLine* Hpet::Wire(unsigned index) const {
  if (general_.Has(GEN_CONF::LEG_RT_CNF) && index < 2) {
    return &(index == 0 ? wires_.irq0 : wires_.irq8).second();
  }
  const unsigned route = RouteOf(timers_[index].state.CONF);
  return RoutePossible(route) ? wires_.pins[index][route - kFirstRoute] : nullptr;
}

// A level is told by its status bit alone; whether that reaches the wire, Settle() decides.
void Hpet::Interrupt(unsigned index) {
  const vmm::BitRegister<CONF> configuration = timers_[index].state.CONF;
  if (configuration.Has(CONF::INT_TYPE_CNF)) {
    status_ |= uint64_t{1} << index;
  } else if (vmm::IrqLine* wire = Wire(index); wire != nullptr) {
    wire->Set(true);
    wire->Set(false);
  }
}

// When there will be something to do for a timer that the guest does not see by reading.
std::optional<Nanoseconds> Hpet::NextInterrupt(const Timer& timer, unsigned index) const {
  // For the guest to clear it.
  const bool waits = timer.state.CONF.Has(CONF::INT_TYPE_CNF) && (status_ >> index & 1);
  if (!Running() || !timer.state.CONF.Has(CONF::INT_ENB_CNF) || waits) return std::nullopt;
  if (timer.owed.count() > 0) return timer.owed.not_before();
  const uint64_t ahead = (timer.state.COMP - timer.from) & SizeMask(timer.state);
  const uint64_t ticks = timer.from - counter_ + ahead;
  if (ahead >= kNever || ticks >= kNever) return std::nullopt;
  return std::max(counter_at_ + Nanoseconds(static_cast<int64_t>(ticks) * kTickNs),
                  timer.owed.not_before());
}

void Hpet::Settle() {
  std::optional<Nanoseconds> next;
  for (unsigned i = 0; i < kTimers; ++i) {
    Timer& timer = timers_[i];
    const bool level = timer.state.CONF.Has(CONF::INT_TYPE_CNF);
    const bool waits = level && (status_ >> i & 1);
    if (Running() && !waits && timer.owed.Take(now_, PeriodOf(timer.state))) Interrupt(i);

    const bool high =
        level && (status_ >> i & 1) && Running() && timer.state.CONF.Has(CONF::INT_ENB_CNF);
    vmm::IrqLine* wanted = high ? Wire(i) : nullptr;
    if (wanted != timer.asserted) {
      if (timer.asserted != nullptr) timer.asserted->Set(false);
      if (wanted != nullptr) wanted->Set(true);
      timer.asserted = wanted;
    }
    const auto deadline = NextInterrupt(timer, i);
    if (deadline && (!next || *deadline < *next)) next = deadline;
  }
  if (next == armed_) return;
  armed_ = next;
  if (next) {
    timer_->Arm(*next);
  } else {
    timer_->Disarm();
  }
}

void Hpet::OnTimer() {
  std::lock_guard lock(mutex_);
  now_ = clock_.Now();
  armed_.reset();
  Advance();
  Settle();
}

uint64_t Hpet::ReadRegister(uint64_t offset) const {
  switch (static_cast<Reg>(offset)) {
    case Reg::GCAP_ID:
      return kTickFs << 32 | kCapabilities;
    case Reg::GEN_CONF:
      return general_.raw();
    case Reg::GINTR_STA:
      return status_;
    case Reg::MAIN_CNT:
      return Counter();
    default:
      break;
  }
  const uint64_t index = (offset - static_cast<uint64_t>(Reg::TIMERS)) / kTimerSize;
  if (offset < static_cast<uint64_t>(Reg::TIMERS) || index >= kTimers) return 0;
  const HpetTimerState& timer = timers_[index].state;
  switch (static_cast<TimerReg>(offset % kTimerSize)) {
    case TimerReg::CONF:
      return kConfCapabilities | timer.CONF.raw();
    case TimerReg::COMP:
      return timer.COMP;
    default:
      return 0;
  }
}

void Hpet::WriteGeneral(uint64_t value) {
  const vmm::BitRegister<GEN_CONF> written(value & kGenConfMask);
  SetCounter(Counter());  // whether it goes on or stops
  const bool legacy = written.Has(GEN_CONF::LEG_RT_CNF);
  const bool changed = legacy != general_.Has(GEN_CONF::LEG_RT_CNF);
  general_ = written;
  if (!changed) return;
  wires_.irq0.Select(legacy);
  wires_.irq8.Select(legacy);
}

void Hpet::WriteConfiguration(Timer& timer, uint64_t value) {
  HpetTimerState& state = timer.state;
  vmm::BitRegister<CONF> written(value & kConfMask);
  // A route that is not offered does not stick. [HPET] 2.3.8 (Tn_INT_ROUTE_CNF)
  if (!RoutePossible(RouteOf(written))) {
    constexpr uint64_t kRoute = static_cast<uint64_t>(CONF::INT_ROUTE_CNF);
    written = vmm::BitRegister<CONF>(written.Field(~kRoute) | state.CONF.Field(kRoute));
  }
  if (!written.Has(CONF::TYPE_CNF)) written.Clear(CONF::VAL_SET_CNF);
  constexpr uint64_t kKind =
      vmm::BitRegister<CONF>::Mask(CONF::TYPE_CNF, CONF::INT_ENB_CNF, CONF::INT_TYPE_CNF);
  if (written.Field(kKind) != state.CONF.Field(kKind)) timer.owed.Clear();
  state.CONF = written;
  state.COMP &= SizeMask(state);
  state.period &= SizeMask(state);
}

// [HPET] 2.3.8 (Tn_VAL_SET_CNF), 2.3.9.2.2
void Hpet::WriteComparator(Timer& timer, uint64_t value, uint64_t mask) {
  HpetTimerState& state = timer.state;
  const bool periodic = state.CONF.Has(CONF::TYPE_CNF);
  const auto merged = [&](uint64_t old) {
    return ((old & ~mask) | (value & mask)) & SizeMask(state);
  };
  if (!periodic || state.CONF.Has(CONF::VAL_SET_CNF)) {
    state.COMP = merged(state.COMP);
    timer.from = Counter();  // met at once if it is just now
  }
  if (periodic) state.period = merged(state.period);
  state.CONF.Clear(CONF::VAL_SET_CNF);
  timer.owed.Clear();
}

// `mask` says which bits are written.
void Hpet::WriteRegister(uint64_t offset, uint64_t value, uint64_t mask) {
  switch (static_cast<Reg>(offset)) {
    case Reg::GEN_CONF:
      return WriteGeneral((general_.raw() & ~mask) | (value & mask));
    case Reg::GINTR_STA:
      status_ &= ~(value & mask);
      return;
    case Reg::MAIN_CNT:
      SetCounter((Counter() & ~mask) | (value & mask));
      for (Timer& timer : timers_) timer.from = counter_;
      return;
    default:
      break;
  }
  const uint64_t index = (offset - static_cast<uint64_t>(Reg::TIMERS)) / kTimerSize;
  if (offset < static_cast<uint64_t>(Reg::TIMERS) || index >= kTimers) return;
  Timer& timer = timers_[index];
  const uint64_t old = timer.state.CONF.raw();
  switch (static_cast<TimerReg>(offset % kTimerSize)) {
    case TimerReg::CONF:
      return WriteConfiguration(timer, (old & ~mask) | (value & mask));
    case TimerReg::COMP:
      return WriteComparator(timer, value, mask);
    default:
      return;
  }
}

void Hpet::Read(uint64_t offset, std::span<uint8_t> data) {
  std::lock_guard lock(mutex_);
  now_ = clock_.Now();
  Advance();
  Settle();
  for (size_t i = 0; i < data.size();) {
    const uint64_t at = offset + i;
    const uint64_t value = ReadRegister(at & ~uint64_t{7});
    const size_t part = std::min<size_t>(data.size() - i, 8 - at % 8);
    vmm::StoreLittleEndian(data.subspan(i, part), value >> (8 * (at % 8)));
    i += part;
  }
}

void Hpet::Write(uint64_t offset, std::span<const uint8_t> data) {
  std::lock_guard lock(mutex_);
  now_ = clock_.Now();
  Advance();
  for (size_t i = 0; i < data.size();) {
    const uint64_t at = offset + i;
    const unsigned shift = 8 * (at % 8);
    const size_t part = std::min<size_t>(data.size() - i, 8 - at % 8);
    const uint64_t mask = (part == 8 ? ~uint64_t{0} : (uint64_t{1} << (8 * part)) - 1) << shift;
    WriteRegister(at & ~uint64_t{7}, vmm::LoadLittleEndian(data.subspan(i, part)) << shift, mask);
    i += part;
  }
  Advance();  // what was written may be met already
  Settle();
}

void Hpet::Reset() {
  std::lock_guard lock(mutex_);
  now_ = clock_.Now();
  general_ = {};
  wires_.irq0.Select(false);
  wires_.irq8.Select(false);
  status_ = 0;
  SetCounter(0);
  for (Timer& timer : timers_) {
    timer.state = {};
    timer.owed.Clear();
    timer.from = 0;
  }
  Settle();
}

HpetState Hpet::Save() const {
  std::lock_guard lock(mutex_);
  HpetState saved;
  saved.GEN_CONF = general_;
  saved.GINTR_STA = status_;
  saved.MAIN_CNT = CounterAt(clock_.Now());
  for (unsigned i = 0; i < kTimers; ++i) {
    Timer timer = timers_[i];
    if (Running()) AdvanceTimer(timer, saved.MAIN_CNT);
    saved.timers[i] = timer.state;
    saved.timers[i].owed = timer.owed.count();
    saved.timers[i].met = timer.from != saved.MAIN_CNT;
  }
  return saved;
}

vmm::Result<void> Hpet::Load(const HpetState& state) {
  bool possible = state.version == HpetState::kVersion && state.GEN_CONF.IsWithin(kGenConfMask) &&
                  state.GINTR_STA >> kTimers == 0;
  for (const HpetTimerState& timer : state.timers) {
    const unsigned route = RouteOf(timer.CONF);
    possible = possible && timer.CONF.IsWithin(kConfMask) && (route == 0 || RoutePossible(route)) &&
               (timer.COMP & ~SizeMask(timer)) == 0 && (timer.period & ~SizeMask(timer)) == 0 &&
               timer.owed >= 0 && (timer.owed == 0 || Interrupts(timer)) &&
               (timer.CONF.Has(CONF::TYPE_CNF) || !timer.CONF.Has(CONF::VAL_SET_CNF));
  }
  if (!possible) {
    return vmm::Fail(vmm::ExitCode::kConfigInvalid, "hpet: the saved state is not one of an HPET");
  }
  std::lock_guard lock(mutex_);
  now_ = clock_.Now();
  general_ = state.GEN_CONF;
  wires_.irq0.Select(general_.Has(GEN_CONF::LEG_RT_CNF));
  wires_.irq8.Select(general_.Has(GEN_CONF::LEG_RT_CNF));
  status_ = state.GINTR_STA;
  SetCounter(state.MAIN_CNT);
  for (unsigned i = 0; i < kTimers; ++i) {
    Timer& timer = timers_[i];
    timer.state = state.timers[i];
    timer.state.owed = 0;  // OwedTicks and `from` have them now
    timer.state.met = false;
    timer.owed.Clear();
    timer.owed.Add(state.timers[i].owed, PeriodOf(timer.state));
    timer.from = state.MAIN_CNT + (state.timers[i].met ? 1 : 0);
  }
  Settle();
  return {};
}

}  // namespace legacy
