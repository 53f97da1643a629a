#include "legacy-devices/pit8254_counter.h"

#include <algorithm>

namespace legacy {

using namespace pit;

namespace {

// How long OUT stays high of a square wave's period. [8254] "Mode 3: square wave mode"
constexpr int64_t HighTicks(int64_t count) {
  return (count + 1) / 2;
}

constexpr uint16_t ToBcd(int64_t value) {
  return static_cast<uint16_t>(value / 1000 % 10 << 12 | value / 100 % 10 << 8 |
                               value / 10 % 10 << 4 | value % 10);
}

}  // namespace

unsigned Pit8254Counter::Mode() const {
  const unsigned mode = state_.control >> 1 & 7;
  return mode > 5 ? mode - 4 : mode;
}

// 0 stands for the largest count; 1 can't be counted in modes 2 and 3. [8254] "Minimum and maximum
// initial counts"
uint32_t Pit8254Counter::CountOfCr() const {
  uint32_t count = state_.CR;
  if (Bcd()) {
    count = (count >> 12) * 1000 + (count >> 8 & 15) * 100 + (count >> 4 & 15) * 10 + (count & 15);
  }
  if (count == 0) return Bcd() ? 10'000 : 0x10000;
  return Periodic() ? std::max(count, 2u) : count;
}

int64_t Pit8254Counter::RisesUntil(int64_t tick) const {
  const int64_t elapsed = tick - state_.start;
  if (elapsed < 0) return 0;
  switch (Mode()) {
    case 0:
    case 1:
      return elapsed >= state_.count;
    case 2:
    case 3:
      return elapsed / state_.count;
    default:
      return elapsed > state_.count;
  }
}

int64_t Pit8254Counter::Advance(int64_t now) {
  int64_t rises = 0;
  now = std::max(now, state_.at);
  if (state_.loaded && state_.counting) {
    if (state_.next_loaded && state_.next_at <= now) {
      rises += RisesUntil(state_.next_at) - RisesUntil(state_.at);
      state_.at = state_.next_at;
      TakeNextCount();
    }
    rises += RisesUntil(now) - RisesUntil(state_.at);
    if (state_.load_pending && now >= state_.start) {
      state_.load_pending = false;
      state_.null_count = false;
    }
  }
  state_.at = now;
  return rises;
}

void Pit8254Counter::TakeNextCount() {
  state_.count = state_.next_count;
  state_.start = state_.next_start;
  state_.next_loaded = false;
  state_.null_count = false;
}

int64_t Pit8254Counter::NextRise() const {
  if (!state_.loaded || !state_.counting) return -1;
  const int64_t done = RisesUntil(state_.at);
  if (Periodic()) {
    const int64_t rise = state_.start + (done + 1) * state_.count;
    if (state_.next_loaded && rise > state_.next_at) return state_.next_start + state_.next_count;
    return rise;
  }
  if (done != 0) return -1;
  return state_.start + state_.count + (Mode() >= 4 ? 1 : 0);
}

int64_t Pit8254Counter::Period() const {
  return Periodic() && state_.loaded && state_.counting ? state_.count : 0;
}

// [8254] "Mode definitions"
bool Pit8254Counter::Out() const {
  if (!state_.loaded) return Mode() != 0;
  const int64_t elapsed = Elapsed(), count = state_.count;
  switch (Mode()) {
    case 0:
      return elapsed >= count;
    case 1:
      return elapsed < 0 || elapsed >= count;
    case 2:
      return !state_.gate || elapsed < 0 || elapsed % count != count - 1;
    case 3:
      return !state_.gate || elapsed < 0 || elapsed % count < HighTicks(count);
    default:
      return elapsed != count;
  }
}

uint16_t Pit8254Counter::Count() const {
  if (!state_.loaded) return state_.CR;
  const int64_t elapsed = std::max<int64_t>(Elapsed(), 0), count = state_.count;
  int64_t value;
  switch (Mode()) {
    case 2:
      value = count - elapsed % count;
      break;
    case 3: {
      // By twos, twice a period; an odd count starts one lower and is 0 for one tick.
      const int64_t in_period = elapsed % count, high = HighTicks(count);
      const int64_t in_half = in_period < high ? in_period : in_period - high;
      value = (count & ~int64_t{1}) - 2 * in_half;
      break;
    }
    default:
      value = count - elapsed;
      break;
  }
  const int64_t modulus = Bcd() ? 10'000 : 0x10000;
  value = (value % modulus + modulus) % modulus;
  return Bcd() ? ToBcd(value) : static_cast<uint16_t>(value);
}

void Pit8254Counter::LoadAtNextTick() {
  state_.loaded = true;
  state_.next_loaded = false;
  state_.count = CountOfCr();
  state_.counting = state_.gate || Triggered();
  state_.start = state_.at + 1;
  state_.elapsed = 0;
  state_.load_pending = state_.counting;
  state_.null_count = state_.counting;
}

// [8254] "Gate pin operations summary"
void Pit8254Counter::SetGate(bool gate) {
  if (gate == state_.gate) return;
  state_.gate = gate;
  if (Triggered() || Periodic()) {
    // A rising edge starts anew.
    if (gate && state_.cr_written) return LoadAtNextTick();
    if (Triggered()) return;
  }
  if (!state_.loaded) return;
  state_.counting = gate;
  if (gate) {
    state_.start = state_.at - state_.elapsed;
  } else {
    state_.elapsed = std::max<int64_t>(state_.at - state_.start, 0);
    if (state_.load_pending) state_.load_pending = state_.null_count = false;
    state_.next_loaded = false;  // the rising edge takes it
  }
}

void Pit8254Counter::WriteControl(uint8_t control) {
  Pit8254CounterState fresh;
  fresh.control = control & kStoredControl;
  fresh.gate = state_.gate;
  fresh.at = state_.at;
  state_ = fresh;
}

void Pit8254Counter::Write(uint8_t value) {
  switch (AccessMode()) {
    case Access::kLow:
      return CountWritten(value);
    case Access::kHigh:
      return CountWritten(static_cast<uint16_t>(value << 8));
    default:
      break;
  }
  if (state_.second_byte_written) {
    state_.second_byte_written = false;
    return CountWritten(static_cast<uint16_t>(value << 8 | state_.low_byte));
  }
  state_.second_byte_written = true;
  state_.low_byte = value;
  if (Mode() == 0) state_.loaded = state_.load_pending = false;  // OUT falls. [8254] "Mode 0"
}

// When a new count takes over: [8254] "Mode definitions", the last paragraph of each
void Pit8254Counter::CountWritten(uint16_t value) {
  state_.CR = value;
  state_.cr_written = true;
  state_.null_count = true;
  const bool before_start = state_.load_pending;
  state_.load_pending = false;
  if (Triggered()) return;
  if (!Periodic() || !state_.loaded || before_start) return LoadAtNextTick();
  if (!state_.counting) return;
  const int64_t count = state_.count, elapsed = state_.at - state_.start;
  const int64_t period_start = state_.start + elapsed / count * count;
  const int64_t in_period = elapsed % count;
  state_.next_loaded = true;
  state_.next_count = CountOfCr();
  if (Mode() == 3 && in_period < HighTicks(count)) {
    state_.next_at = period_start + HighTicks(count);
    state_.next_start = state_.next_at - HighTicks(state_.next_count);
  } else {
    state_.next_at = state_.next_start = period_start + count;
  }
}

uint8_t Pit8254Counter::ReadBytes(uint16_t value, bool& done) {
  done = true;
  const auto low = static_cast<uint8_t>(value), high = static_cast<uint8_t>(value >> 8);
  switch (AccessMode()) {
    case Access::kLow:
      return low;
    case Access::kHigh:
      return high;
    default:
      break;
  }
  done = state_.second_byte_read;
  state_.second_byte_read = !state_.second_byte_read;
  return done ? high : low;
}

// Status goes first when both are latched. [8254] "Read-back command"
uint8_t Pit8254Counter::Read() {
  if (state_.status_latched) {
    state_.status_latched = false;
    return state_.latched_status;
  }
  bool done;
  const uint8_t byte = ReadBytes(state_.count_latched ? state_.latched_count : Count(), done);
  if (done) state_.count_latched = false;
  return byte;
}

void Pit8254Counter::LatchCount() {
  if (state_.count_latched) return;
  state_.count_latched = true;
  state_.latched_count = Count();
}

void Pit8254Counter::LatchStatus() {
  if (state_.status_latched) return;
  state_.status_latched = true;
  state_.latched_status =
      static_cast<uint8_t>(state_.control | (Out() ? static_cast<uint8_t>(Status::OUT) : 0) |
                           (state_.null_count ? static_cast<uint8_t>(Status::NULL_COUNT) : 0));
}

bool Pit8254Counter::Possible(const Pit8254CounterState& s) {
  constexpr int64_t kEnd = int64_t{1} << 60;          // ticks: 30,000 years
  constexpr uint32_t kMaxCount = 0x10000 + 9 * 1110;  // BCD digits may be up to 15
  const auto is_count = [](uint32_t count) { return count >= 1 && count <= kMaxCount; };
  Pit8254Counter counter;
  counter.Load(s);
  if ((s.control & ~kStoredControl) != 0 || counter.AccessMode() == Access::kLatch) return false;
  if (s.at < 0 || s.at >= kEnd || !is_count(s.count) || !is_count(s.next_count)) return false;
  if (counter.Periodic() && (s.count < 2 || s.next_count < 2)) return false;
  if (s.start < -kEnd || s.start > s.at + 1 || s.elapsed < 0 || s.elapsed >= kEnd) return false;
  if (s.load_pending && !(s.loaded && s.counting && s.start == s.at + 1)) return false;
  if (!s.next_loaded) return true;
  return counter.Periodic() && s.loaded && s.counting && s.next_at > s.at &&
         s.next_at <= s.at + kMaxCount && s.next_start <= s.next_at &&
         s.next_start >= s.next_at - kMaxCount;
}

}  // namespace legacy
