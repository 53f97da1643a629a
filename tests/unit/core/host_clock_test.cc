#include "vmm/core/time/host_clock.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <random>
#include <thread>
#include <vector>

namespace {

using namespace std::chrono_literals;
using vmm::CpuidRegs;
using vmm::FindTscFrequency;
using vmm::HostClock;
using vmm::Nanoseconds;
using vmm::TscFrequency;

constexpr TscFrequency k3Ghz = {3'000'000'000, TscFrequency::Source::kCrystal};

struct CountingListener : vmm::ClockListener {
  void OnClockChange() override { ++changes; }
  int changes = 0;
};

TEST_CASE("A clock stands at zero until it is started, and advances then") {
  HostClock clock(k3Ghz);
  REQUIRE_FALSE(clock.running());
  REQUIRE(clock.Now() == 0ns);
  REQUIRE(clock.Tsc() == 0);
  clock.Start();
  REQUIRE(clock.running());
  const Nanoseconds first = clock.Now();
  std::this_thread::sleep_for(1ms);
  REQUIRE(clock.Now() >= first + 1ms);
}

TEST_CASE("A paused clock stands still and goes on where it stood") {
  HostClock clock(k3Ghz);
  clock.Start(5s);
  clock.Pause();
  const Nanoseconds stopped = clock.Now();
  REQUIRE(stopped >= 5s);
  REQUIRE(stopped < 6s);
  std::this_thread::sleep_for(2ms);
  REQUIRE(clock.Now() == stopped);
  clock.Pause();
  REQUIRE(clock.Now() == stopped);
  clock.Resume();
  REQUIRE(clock.Now() >= stopped);
  REQUIRE(clock.Now() < stopped + 1s);
}

TEST_CASE("The counter is the time in ticks of its frequency") {
  HostClock clock(k3Ghz);
  clock.Start(10s);
  clock.Pause();
  REQUIRE(clock.Tsc() == static_cast<uint64_t>(clock.Now().count()) * 3);
  HostClock old(TscFrequency{2'599'999'000, TscFrequency::Source::kMeasured});
  old.Start(std::chrono::hours(24 * 365 * 20));  // no overflow after twenty years
  old.Pause();
  const double seconds = std::chrono::duration<double>(old.Now()).count();
  REQUIRE(static_cast<double>(old.Tsc()) == Approx(seconds * 2'599'999'000).epsilon(1e-9));
}

TEST_CASE("The counter's ticks are exact for every time and frequency") {
  const uint64_t hz = GENERATE(as<uint64_t>(), 1'000'000, 999'999'999, 1'000'000'000, 1'000'000'001,
                               2'445'404'000, 19'999'999'999, 100'000'000'000);
  std::mt19937_64 random(hz);
  for (int i = 0; i < 100'000; ++i) {
    const uint64_t ns = random() >> (7 + random() % 50);
    const auto exact = static_cast<unsigned __int128>(ns) * hz / 1'000'000'000;
    REQUIRE(HostClock::TicksAt(ns, hz) == static_cast<uint64_t>(exact));
  }
}

TEST_CASE("Listeners hear of each change and of nothing else") {
  HostClock clock(k3Ghz);
  CountingListener listener;
  clock.AddListener(listener);
  clock.Start();
  clock.Resume();  // runs already
  REQUIRE(listener.changes == 1);
  clock.Pause();
  clock.Pause();
  clock.Resume();
  REQUIRE(listener.changes == 3);
  clock.RemoveListener(listener);
  clock.Pause();
  REQUIRE(listener.changes == 3);
}

TEST_CASE("Time never goes back while the clock is paused and resumed", "[threads]") {
  HostClock clock(k3Ghz);
  clock.Start();
  std::atomic<bool> stop{false};
  std::atomic<int> went_back{0};
  std::thread reader([&] {
    Nanoseconds last{0};
    while (!stop) {
      const Nanoseconds now = clock.Now();
      if (now < last) ++went_back;
      last = now;
    }
  });
  for (int i = 0; i < 5000; ++i) {
    clock.Pause();
    const Nanoseconds stopped = clock.Now();
    if (clock.Now() != stopped) ++went_back;
    clock.Resume();
  }
  stop = true;
  reader.join();
  REQUIRE(went_back == 0);
}

// A host's CPUID for tests: what is not listed reads as zero.
struct Leaf {
  uint32_t leaf;
  CpuidRegs regs;
};
vmm::CpuidSource Host(std::vector<Leaf> leaves) {
  return [leaves](uint32_t leaf, uint32_t) {
    for (const Leaf& entry : leaves) {
      if (entry.leaf == leaf) return entry.regs;
    }
    return CpuidRegs{};
  };
}
constexpr Leaf kMaxExtended = {0x80000000, {.eax = 0x80000008}};
constexpr Leaf kInvariant = {0x80000007, {.edx = 1u << 8}};

TEST_CASE("The TSC frequency is crystal * EBX / EAX of leaf 0x15 where given ([SDM 3B] 18.7.3)") {
  const TscFrequency found =
      FindTscFrequency(Host({{0, {.eax = 0x1f}},
                             {0x15, {.eax = 2, .ebx = 216, .ecx = 24'000'000}},
                             {0x16, {.eax = 2600}},
                             kMaxExtended,
                             kInvariant}));
  REQUIRE(found.hz == 2'592'000'000);
  REQUIRE(found.source == TscFrequency::Source::kCrystal);
}

TEST_CASE("Under a hypervisor leaf 0x40000010 gives the frequency in kHz") {
  const std::vector<Leaf> leaves = {{0, {.eax = 0x10}},
                                    {1, {.ecx = 1u << 31}},
                                    {0x40000000, {.eax = 0x40000010}},
                                    {0x40000010, {.eax = 2'445'404}},
                                    kMaxExtended,
                                    kInvariant};
  const TscFrequency found = FindTscFrequency(Host(leaves));
  REQUIRE(found.hz == 2'445'404'000);
  REQUIRE(found.source == TscFrequency::Source::kHypervisor);
}

TEST_CASE("Without a crystal frequency the base frequency of leaf 0x16 counts") {
  const TscFrequency found = FindTscFrequency(Host({{0, {.eax = 0x16}},
                                                    {0x15, {.eax = 2, .ebx = 216}},
                                                    {0x16, {.eax = 2600}},
                                                    kMaxExtended,
                                                    kInvariant}));
  REQUIRE(found.hz == 2'600'000'000);
  REQUIRE(found.source == TscFrequency::Source::kBase);
}

TEST_CASE("A counter that is not invariant is replaced by one of 1 GHz") {
  const TscFrequency found = FindTscFrequency(
      Host({{0, {.eax = 0x15}}, {0x15, {.eax = 1, .ebx = 100, .ecx = 25'000'000}}, kMaxExtended}));
  REQUIRE(found.hz == 1'000'000'000);
  REQUIRE(found.source == TscFrequency::Source::kSynthetic);
}

TEST_CASE("Where CPUID says nothing the counter is measured against the clock") {
  const TscFrequency found = FindTscFrequency(Host({{0, {.eax = 1}}, kMaxExtended, kInvariant}));
  REQUIRE(found.hz >= 100'000'000);
  REQUIRE(found.hz <= 20'000'000'000);
  REQUIRE(found.hz % 1000 == 0);
}

TEST_CASE("An absurd frequency from a hypervisor is not believed") {
  const TscFrequency found =
      FindTscFrequency(Host({{0, {.eax = 0x15}},
                             {0x15, {.eax = 1, .ebx = 0xffffffff, .ecx = 0xffffffff}},
                             kMaxExtended,
                             kInvariant}));
  REQUIRE(found.source != TscFrequency::Source::kCrystal);
  REQUIRE(found.hz <= 20'000'000'000);
}

}  // namespace
