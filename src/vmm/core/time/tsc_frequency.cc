#include "vmm/core/time/tsc_frequency.h"

#include <time.h>
#include <x86intrin.h>

namespace vmm {
namespace {

constexpr uint64_t kGhz = 1'000'000'000;
constexpr uint64_t kCalibrationNs = 2'000'000;

// The counter and the clock at one moment, as near as 16 tries bring them together.
struct Sample {
  uint64_t tsc;
  uint64_t ns;
};

Sample TakeSample() {
  Sample best{};
  uint64_t narrowest = ~uint64_t{0};
  for (int i = 0; i < 16; ++i) {
    timespec now{};
    const uint64_t before = __rdtsc();
    clock_gettime(CLOCK_MONOTONIC_RAW, &now);
    const uint64_t after = __rdtsc();
    if (after - before < narrowest) {
      narrowest = after - before;
      best = {before + (after - before) / 2,
              static_cast<uint64_t>(now.tv_sec) * kGhz + static_cast<uint64_t>(now.tv_nsec)};
    }
  }
  return best;
}

// When the program began: what it does until somebody asks need not be waited for.
const Sample kProgramStart = TakeSample();

// Hz, rounded to kHz; 0 when the two clocks make no sense together.
uint64_t Measure() {
  Sample end = TakeSample();
  if (end.ns - kProgramStart.ns < kCalibrationNs) {
    const timespec pause{
        .tv_sec = 0, .tv_nsec = static_cast<long>(kCalibrationNs - (end.ns - kProgramStart.ns))};
    nanosleep(&pause, nullptr);
    end = TakeSample();
  }
  if (end.tsc <= kProgramStart.tsc || end.ns <= kProgramStart.ns) return 0;
  const auto hz =
      static_cast<uint64_t>(static_cast<unsigned __int128>(end.tsc - kProgramStart.tsc) * kGhz /
                            (end.ns - kProgramStart.ns));
  return (hz + 500) / 1000 * 1000;
}

// What no x86-64 processor has is a hypervisor's mistake and would break the guest's arithmetic.
bool IsPlausible(uint64_t hz) {
  return hz >= 100'000'000 && hz <= 20 * kGhz;
}

}  // namespace

std::string_view Name(TscFrequency::Source source) {
  switch (source) {
    case TscFrequency::Source::kCrystal:
      return "CPUID leaf 0x15";
    case TscFrequency::Source::kHypervisor:
      return "CPUID leaf 0x40000010";
    case TscFrequency::Source::kBase:
      return "CPUID leaf 0x16";
    case TscFrequency::Source::kMeasured:
      return "measured";
    case TscFrequency::Source::kSaved:
      return "of the saved machine";
    case TscFrequency::Source::kSynthetic:
      return "synthetic";
  }
  return "unknown";
}

TscFrequency FindTscFrequency(const CpuidSource& host) {
  using Source = TscFrequency::Source;
  const TscFrequency synthetic = {kGhz, Source::kSynthetic};
  const bool invariant =
      host(0x80000000, 0).eax >= 0x80000007 && (host(0x80000007, 0).edx & (1u << 8));
  if (!invariant) return synthetic;

  const uint32_t max_leaf = host(0, 0).eax;
  const CpuidRegs ratio = max_leaf >= 0x15 ? host(0x15, 0) : CpuidRegs{};
  const bool has_ratio = ratio.eax != 0 && ratio.ebx != 0;
  if (has_ratio && ratio.ecx != 0) {
    const uint64_t hz = uint64_t{ratio.ecx} * ratio.ebx / ratio.eax;
    if (IsPlausible(hz)) return {hz, Source::kCrystal};
  }
  if (host(1, 0).ecx & (1u << 31)) {  // a hypervisor is present
    const uint32_t max_hypervisor_leaf = host(0x40000000, 0).eax;
    if (max_hypervisor_leaf >= 0x40000010 && max_hypervisor_leaf < 0x40010000) {
      const uint64_t hz = uint64_t{host(0x40000010, 0).eax} * 1000;
      if (IsPlausible(hz)) return {hz, Source::kHypervisor};
    }
  }
  // [SDM 3B] 18.7.3: where the crystal is not given, the counter runs at the base frequency.
  if (has_ratio && max_leaf >= 0x16) {
    const uint64_t hz = uint64_t{host(0x16, 0).eax & 0xffff} * 1'000'000;
    if (IsPlausible(hz)) return {hz, Source::kBase};
  }
  const uint64_t hz = Measure();
  return IsPlausible(hz) ? TscFrequency{hz, Source::kMeasured} : synthetic;
}

}  // namespace vmm
