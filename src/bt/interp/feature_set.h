// Which instructions and control bits a guest's processor has.
#pragma once

#include "bt/isa/feature.h"
#include "vmm/core/state/cpuid_policy.h"

namespace bt {

// What `policy` advertises, less what would have to run natively on a host that lacks it.
class FeatureSet {
 public:
  explicit FeatureSet(const vmm::CpuidPolicy& policy);
  bool Has(Feature feature) const { return bits_ >> static_cast<unsigned>(feature) & 1; }

  uint64_t cr4_bits() const { return cr4_bits_; }  // that a guest may set

 private:
  uint64_t bits_ = 1;  // kAlways
  uint64_t cr4_bits_ = 0;
};

}  // namespace bt
