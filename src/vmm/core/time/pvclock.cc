#include "vmm/core/time/pvclock.h"

#include <atomic>
#include <bit>
#include <cstring>

namespace vmm {
namespace {

constexpr uint64_t kEnabled = 1;  // bit 0 of the system-time MSR
constexpr uint8_t kTscStable = 1;

// struct pvclock_vcpu_time_info and pvclock_wall_clock, little endian, packed as the guest sees
// them.
struct TimeInfo {
  uint32_t version;  // odd while it is being written
  uint32_t pad0;
  uint64_t tsc_timestamp;
  uint64_t system_time;  // ns
  uint32_t tsc_to_system_mul;
  int8_t tsc_shift;
  uint8_t flags;
  uint8_t pad[2];
};
static_assert(sizeof(TimeInfo) == 32);

struct WallClock {
  uint32_t version;
  uint32_t seconds, nanoseconds;
};
static_assert(sizeof(WallClock) == 12);

// ns = ((ticks << shift) * mul) >> 32, with mul as large as 32 bits allow.
void ScaleFor(uint64_t hz, uint32_t& mul, int8_t& shift) {
  constexpr uint64_t kSecond = 1'000'000'000;
  int log2 = 0;
  uint64_t scaled = hz;
  while (scaled > 2 * kSecond) {
    scaled >>= 1;
    --log2;
  }
  while (scaled <= kSecond) {
    scaled <<= 1;
    ++log2;
  }
  // mul = 10^9 * 2^32 / (hz * 2^log2), from the exact frequency.
  unsigned __int128 numerator = static_cast<unsigned __int128>(kSecond) << 32;
  if (log2 < 0)
    numerator <<= -log2;
  else
    numerator >>= log2;
  mul = static_cast<uint32_t>(numerator / hz);
  shift = static_cast<int8_t>(log2);
}

// Writes `body` with its first word, a version, odd meanwhile and even and new after.
template <class T>
void Publish(uint8_t* host, T body) {
  auto& version = *reinterpret_cast<uint32_t*>(host);
  const uint32_t before = __atomic_load_n(&version, __ATOMIC_RELAXED) & ~1u;
  __atomic_store_n(&version, before + 1, __ATOMIC_SEQ_CST);
  std::memcpy(host + 4, reinterpret_cast<const uint8_t*>(&body) + 4, sizeof(T) - 4);
  __atomic_store_n(&version, before + 2, __ATOMIC_SEQ_CST);
}

}  // namespace

bool PvClock::ReadMsr(uint32_t index, uint64_t* value) const {
  switch (index) {
    case kMsrWallClock:
    case kMsrWallClockOld:
      *value = wall_clock_;
      return true;
    case kMsrSystemTime:
    case kMsrSystemTimeOld:
      *value = system_time_;
      return true;
    default:
      return false;
  }
}

bool PvClock::WriteMsr(uint32_t index, uint64_t value) {
  switch (index) {
    case kMsrWallClock:
    case kMsrWallClockOld:
      wall_clock_ = value;
      WriteWallClock();
      return true;
    case kMsrSystemTime:
    case kMsrSystemTimeOld:
      if ((value & kEnabled) && !memory_.Host(GuestPhys(value & ~kEnabled), sizeof(TimeInfo)))
        return false;
      system_time_ = value;
      Update();
      return true;
    default:
      return false;
  }
}

void PvClock::SetTscOffset(uint64_t offset) {
  tsc_offset_ = offset;
  Update();
}

void PvClock::Update() {
  if (!(system_time_ & kEnabled)) return;
  uint8_t* host = memory_.Host(GuestPhys(system_time_ & ~kEnabled), sizeof(TimeInfo));
  if (!host || (system_time_ & 2)) return;
  TimeInfo info{};
  // One origin for every vCPU, so that their clocks agree to the tick: Now() and Tsc() are both
  // zero there.
  info.tsc_timestamp = tsc_offset_;
  ScaleFor(clock_.tsc_hz(), info.tsc_to_system_mul, info.tsc_shift);
  info.flags = kTscStable;
  Publish(host, info);
}

// The wall-clock time at which the system time was zero.
void PvClock::WriteWallClock() {
  uint8_t* host = memory_.Host(GuestPhys(wall_clock_), sizeof(WallClock));
  if (!host) return;
  const auto at_zero = static_cast<uint64_t>((clock_.WallTime() - clock_.Now()).count());
  WallClock clock{};
  clock.seconds = static_cast<uint32_t>(at_zero / 1'000'000'000);
  clock.nanoseconds = static_cast<uint32_t>(at_zero % 1'000'000'000);
  Publish(host, clock);
}

}  // namespace vmm
