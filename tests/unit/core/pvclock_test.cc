#include "vmm/core/time/pvclock.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <thread>

#include "tests/support/fake_clock.h"

namespace {

using namespace std::chrono_literals;
using vmm::FakeClock;
using vmm::GuestMemory;
using vmm::GuestPhys;
using vmm::kMiB;
using vmm::PvClock;

constexpr uint64_t kInfo = 0x5040;  // where the guest keeps its structures
constexpr uint64_t kWall = 0x6000;

// The ABI as the guest's header has it. [KVM-MSR]
struct TimeInfo {
  uint32_t version, pad0;
  uint64_t tsc_timestamp, system_time;
  uint32_t tsc_to_system_mul;
  int8_t tsc_shift;
  uint8_t flags, pad[2];
};
struct WallClock {
  uint32_t version, seconds, nanoseconds;
};

struct Guest {
  explicit Guest(uint64_t tsc_hz = 2'596'123'000) : clock(tsc_hz) {}

  template <class T>
  T Get(uint64_t address) const {
    T value;
    std::memcpy(&value, memory.Host(GuestPhys(address), sizeof value), sizeof value);
    return value;
  }
  // What a guest computes from the structure, as pvclock_clocksource_read() does.
  uint64_t ReadTime(uint64_t tsc) const {
    const auto info = Get<TimeInfo>(kInfo);
    uint64_t delta = tsc - info.tsc_timestamp;
    delta = info.tsc_shift < 0 ? delta >> -info.tsc_shift : delta << info.tsc_shift;
    return info.system_time +
           static_cast<uint64_t>(static_cast<unsigned __int128>(delta) * info.tsc_to_system_mul >>
                                 32);
  }

  FakeClock clock;
  GuestMemory memory = *GuestMemory::Create(2 * kMiB);
  PvClock pv{clock, memory};
};

TEST_CASE("Enabling the system time writes a stable clock that follows Now()") {
  for (uint64_t hz : {uint64_t{100'000'000}, uint64_t{999'999'999}, uint64_t{1'000'000'000},
                      uint64_t{1'000'000'001}, uint64_t{2'000'000'000}, uint64_t{2'000'000'001},
                      uint64_t{2'596'123'000}, uint64_t{5'192'246'000}}) {
    Guest guest(hz);
    INFO("TSC of " << hz << " Hz");
    REQUIRE(guest.pv.WriteMsr(PvClock::kMsrSystemTime, kInfo | 1));
    REQUIRE(guest.Get<TimeInfo>(kInfo).flags == 1);  // PVCLOCK_TSC_STABLE_BIT
    REQUIRE(guest.Get<TimeInfo>(kInfo).version % 2 == 0);
    for (vmm::Nanoseconds now :
         {vmm::Nanoseconds(1s), vmm::Nanoseconds(24h), vmm::Nanoseconds(24h * 365 * 10)}) {
      guest.clock.AdvanceTo(now);
      const double error = static_cast<double>(guest.ReadTime(guest.clock.Tsc())) -
                           static_cast<double>(guest.clock.Now().count());
      // One nanosecond, plus what 32 bits of multiplier can't express: 0.5 ppb.
      REQUIRE(std::abs(error) <= 20 + static_cast<double>(now.count()) * 5e-10);
    }
  }
}

TEST_CASE("The guest's own TSC offset does not move its clock") {
  Guest guest;
  guest.clock.Advance(3s);
  REQUIRE(guest.pv.WriteMsr(PvClock::kMsrSystemTime, kInfo | 1));
  for (uint64_t offset : {uint64_t{0}, uint64_t{12'345'678'901}, ~uint64_t{0} - 1'000'000'000}) {
    guest.pv.SetTscOffset(offset);
    const auto time = static_cast<int64_t>(guest.ReadTime(guest.clock.Tsc() + offset));
    REQUIRE(std::abs(time - guest.clock.Now().count()) <= 20);
  }
}

TEST_CASE("Each write makes a new even version, whatever the guest left there") {
  Guest guest;
  const uint32_t odd = 0x80000001;
  guest.memory.Write(GuestPhys(kInfo), {reinterpret_cast<const uint8_t*>(&odd), 4});
  REQUIRE(guest.pv.WriteMsr(PvClock::kMsrSystemTime, kInfo | 1));
  REQUIRE(guest.Get<TimeInfo>(kInfo).version == 0x80000002);
  guest.pv.Update();
  REQUIRE(guest.Get<TimeInfo>(kInfo).version == 0x80000004);
  const uint32_t last = 0xfffffffe;
  guest.memory.Write(GuestPhys(kInfo), {reinterpret_cast<const uint8_t*>(&last), 4});
  guest.pv.Update();
  REQUIRE(guest.Get<TimeInfo>(kInfo).version == 0);
}

TEST_CASE("A disabled system time is left alone") {
  Guest guest;
  REQUIRE(guest.pv.WriteMsr(PvClock::kMsrSystemTime, kInfo | 1));
  REQUIRE(guest.pv.WriteMsr(PvClock::kMsrSystemTime, 0));
  const uint32_t version = guest.Get<TimeInfo>(kInfo).version;
  guest.pv.Update();
  guest.pv.SetTscOffset(5);
  REQUIRE(guest.Get<TimeInfo>(kInfo).version == version);
  REQUIRE(guest.Get<uint32_t>(0) == 0);
}

TEST_CASE("The wall clock is the time of day at which the system time was zero ([KVM-MSR])") {
  Guest guest;
  guest.clock.SetWallStart(std::chrono::seconds(1'700'000'000) + 123'456'789ns);
  guest.clock.Advance(77s);
  REQUIRE(guest.pv.WriteMsr(PvClock::kMsrWallClock, kWall));
  const auto wall = guest.Get<WallClock>(kWall);
  REQUIRE(wall.version % 2 == 0);
  REQUIRE(wall.version != 0);
  REQUIRE(wall.seconds == 1'700'000'000);
  REQUIRE(wall.nanoseconds == 123'456'789);
}

TEST_CASE("The old and the new MSR numbers are the same registers") {
  Guest guest;
  uint64_t value = 0;
  REQUIRE(guest.pv.WriteMsr(PvClock::kMsrWallClockOld, kWall));
  REQUIRE(guest.pv.WriteMsr(PvClock::kMsrSystemTimeOld, kInfo | 1));
  REQUIRE(guest.pv.ReadMsr(PvClock::kMsrWallClock, &value));
  REQUIRE(value == kWall);
  REQUIRE(guest.pv.ReadMsr(PvClock::kMsrSystemTime, &value));
  REQUIRE(value == (kInfo | 1));
  REQUIRE(guest.pv.ReadMsr(0x11, &value));
  REQUIRE(guest.pv.ReadMsr(0x12, &value));
  REQUIRE_FALSE(guest.pv.ReadMsr(0x10, &value));
  REQUIRE_FALSE(guest.pv.WriteMsr(0x4b564d02, 0));
}

TEST_CASE("An address outside RAM or unaligned is refused and changes nothing") {
  Guest guest;
  REQUIRE(guest.pv.WriteMsr(PvClock::kMsrSystemTime, kInfo | 1));
  for (uint64_t address :
       {2 * kMiB - 28, 2 * kMiB, uint64_t{0xfee00000}, ~uint64_t{0} << 2, kInfo + 2}) {
    REQUIRE_FALSE(guest.pv.WriteMsr(PvClock::kMsrSystemTime, address | 1));
    REQUIRE_FALSE(
        guest.pv.WriteMsr(PvClock::kMsrWallClock, address + (address == 2 * kMiB - 28 ? 20 : 0)));
  }
  REQUIRE(guest.pv.system_time() == (kInfo | 1));
  REQUIRE(guest.pv.wall_clock() == 0);
  REQUIRE(guest.pv.WriteMsr(PvClock::kMsrSystemTime, (2 * kMiB - 32) | 1));
}

TEST_CASE("A wall-clock address of 0 writes nothing: byte 0 belongs to the guest") {
  Guest guest;
  const uint8_t vector[4] = {0x53, 0xff, 0x00, 0xf0};
  guest.memory.Write(GuestPhys(0), vector);
  REQUIRE(guest.pv.WriteMsr(PvClock::kMsrWallClock, 0));
  guest.pv.Restore(0, 0);
  REQUIRE(guest.Get<uint32_t>(0) == 0xf000ff53);
}

TEST_CASE("A saved clock goes on where it was; a wild one writes nothing") {
  Guest guest;
  REQUIRE(guest.pv.WriteMsr(PvClock::kMsrWallClock, kWall));
  REQUIRE(guest.pv.WriteMsr(PvClock::kMsrSystemTime, kInfo | 1));
  const uint32_t wall_version = guest.Get<WallClock>(kWall).version;
  PvClock loaded(guest.clock, guest.memory);
  loaded.Restore(guest.pv.wall_clock(), guest.pv.system_time());
  REQUIRE(loaded.wall_clock() == kWall);
  REQUIRE(loaded.system_time() == (kInfo | 1));
  REQUIRE(guest.Get<WallClock>(kWall).version == wall_version);
  REQUIRE(guest.Get<TimeInfo>(kInfo).version == 4);
  for (uint64_t value : {~uint64_t{0}, kInfo | 3, 2 * kMiB | 1}) {
    loaded.Restore(value, value);
    loaded.Update();
  }
  REQUIRE(guest.Get<TimeInfo>(kInfo).version == 4);
}

TEST_CASE("A reader on another CPU never takes a half-written time for whole", "[threads]") {
  Guest guest;
  REQUIRE(guest.pv.WriteMsr(PvClock::kMsrSystemTime, kInfo | 1));
  guest.pv.SetTscOffset(0);
  auto* const words = reinterpret_cast<uint32_t*>(guest.memory.Host(GuestPhys(kInfo), 32));
  std::atomic<bool> stop{false};
  std::atomic<int> torn{0}, whole{0};
  std::thread reader([&] {
    while (!stop) {
      const uint32_t before = __atomic_load_n(words, __ATOMIC_ACQUIRE);
      const uint32_t low = __atomic_load_n(words + 2, __ATOMIC_ACQUIRE);
      const uint32_t high = __atomic_load_n(words + 3, __ATOMIC_ACQUIRE);
      if (before % 2 != 0 || __atomic_load_n(words, __ATOMIC_ACQUIRE) != before) continue;
      ++whole;
      if (low != high) ++torn;
    }
  });
  for (uint64_t i = 0; i < 20'000 || whole == 0; ++i) {
    guest.pv.SetTscOffset((i & 0xffffff) * 0x100000001);
  }
  stop = true;
  reader.join();
  REQUIRE(torn == 0);
}

}  // namespace
