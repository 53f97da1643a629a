// At which rate the host's time-stamp counter runs: the rate that the guest is told.
#pragma once

#include <cstdint>
#include <string_view>

#include "vmm/core/state/host_cpuid.h"

namespace vmm {

struct TscFrequency {
  enum class Source : uint8_t {
    kCrystal,     // CPUID leaf 0x15, exact
    kHypervisor,  // CPUID leaf 0x40000010, in kHz
    kBase,        // the ratio of leaf 0x15 and the base frequency of leaf 0x16, in MHz
    kMeasured,    // against CLOCK_MONOTONIC_RAW for 2 ms, to about 10 ppm
    kSaved,       // a machine that was saved goes on at the rate that its guest knows
    kSynthetic,   // the host's counter is not invariant: 1 GHz, derived from the clock
  };
  uint64_t hz = 0;
  Source source = Source::kSynthetic;
};

std::string_view Name(TscFrequency::Source source);

// Asks CPUID; takes 2 ms (asleep) where CPUID does not say. `host` may be replaced in tests.
TscFrequency FindTscFrequency(const CpuidSource& host = HostCpuid);

}  // namespace vmm
