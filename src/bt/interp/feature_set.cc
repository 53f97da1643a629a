#include "bt/interp/feature_set.h"

namespace bt {

FeatureSet::FeatureSet(const vmm::CpuidPolicy& policy) {
  static const vmm::CpuidPolicy& host = *new vmm::CpuidPolicy(vmm::CpuidPolicy::Build({}));
  for (unsigned i = 1; i < static_cast<unsigned>(Feature::kCount); ++i) {
    const FeatureInfo& info = kFeatureInfo[i];
    if (policy.Has(info.cpuid) && (!info.native || host.Has(info.cpuid))) bits_ |= uint64_t{1} << i;
  }
}

}  // namespace bt
