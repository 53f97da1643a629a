#include "vmm/core/time/pvclock.h"

#include <array>
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

// Writes `body` behind its first word, a version: odd meanwhile, even and new after. The guest may
// read it from another vCPU at any time, so each word is stored with release: none is seen before
// the odd version, nor after the even one. The guest owns the old version: it is read once.
template <class T>
void Publish(uint8_t* host, const T& body) {
  constexpr size_t kWords = sizeof(T) / 4;
  std::array<uint32_t, kWords> words;
  std::memcpy(words.data(), &body, sizeof(T));
  auto* const target = reinterpret_cast<uint32_t*>(host);
  const uint32_t before = __atomic_load_n(target, __ATOMIC_RELAXED) & ~1u;
  __atomic_store_n(target, before + 1, __ATOMIC_RELAXED);
  for (size_t i = 1; i < kWords; ++i) __atomic_store_n(target + i, words[i], __ATOMIC_RELEASE);
  __atomic_store_n(target, before + 2, __ATOMIC_RELEASE);
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
      if (value != 0 && Target(value, sizeof(WallClock)) == nullptr) return false;
      wall_clock_ = value;
      WriteWallClock();
      return true;
    case kMsrSystemTime:
    case kMsrSystemTimeOld:
      if ((value & kEnabled) && Target(value & ~kEnabled, sizeof(TimeInfo)) == nullptr) {
        return false;
      }
      system_time_ = value;
      Update();
      return true;
    default:
      return false;
  }
}

void PvClock::Restore(uint64_t wall_clock, uint64_t system_time) {
  wall_clock_ = wall_clock;
  system_time_ = system_time;
  Update();
}

void PvClock::SetTscOffset(uint64_t offset) {
  tsc_offset_ = offset;
  Update();
}

// Where a structure of the guest is; nullptr unless it is aligned RAM. [KVM-MSR] demands 4 bytes.
uint8_t* PvClock::Target(uint64_t address, uint64_t size) const {
  return address % 4 == 0 ? memory_.Host(GuestPhys(address), size) : nullptr;
}

void PvClock::Update() {
  if (!(system_time_ & kEnabled)) return;
  uint8_t* const host = Target(system_time_ & ~kEnabled, sizeof(TimeInfo));
  if (host == nullptr) return;  // a saved state that is not ours may name anything
  TimeInfo info{};
  // One origin for every vCPU, so that their clocks agree to the tick: Now() and Tsc() are both
  // zero there.
  info.tsc_timestamp = tsc_offset_;
  ScaleFor(clock_.tsc_hz(), info.tsc_to_system_mul, info.tsc_shift);
  info.flags = kTscStable;
  Publish(host, info);
}

// The wall-clock time at which the system time was zero. An address of 0 asks for nothing, as KVM
// has it.
void PvClock::WriteWallClock() {
  if (wall_clock_ == 0) return;
  uint8_t* const host = Target(wall_clock_, sizeof(WallClock));
  if (host == nullptr) return;
  const auto at_zero = static_cast<uint64_t>((clock_.WallTime() - clock_.Now()).count());
  WallClock clock{};
  clock.seconds = static_cast<uint32_t>(at_zero / 1'000'000'000);
  clock.nanoseconds = static_cast<uint32_t>(at_zero % 1'000'000'000);
  Publish(host, clock);
}

}  // namespace vmm
