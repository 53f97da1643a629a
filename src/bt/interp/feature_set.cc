#include "bt/interp/feature_set.h"

#include "bt/interp/cpu.h"

namespace bt {
namespace {

// The bits of CR4 that exist, by the feature that brings them. [SDM 3A] 2.5
constexpr struct {
  uint64_t bits;
  std::string_view feature;
} kCr4Bits[] = {
    {cr4::VME | cr4::PVI, "vme"},
    {cr4::TSD, "tsc"},
    {cr4::DE, "de"},
    {cr4::PSE, "pse"},
    {cr4::PAE, "pae"},
    {cr4::MCE, "mce"},
    {cr4::PGE, "pge"},
    {cr4::PCE, "mmx"},  // RDPMC came with it
    {cr4::OSFXSR, "fxsr"},
    {cr4::OSXMMEXCPT, "sse"},
    {cr4::UMIP, "umip"},
    {cr4::FSGSBASE, "fsgsbase"},
    {cr4::PCIDE, "pcid"},
    {cr4::OSXSAVE, "xsave"},
    {cr4::SMEP, "smep"},
    {cr4::SMAP, "smap"},
};

}  // namespace

FeatureSet::FeatureSet(const vmm::CpuidPolicy& policy) {
  static const vmm::CpuidPolicy& host = *new vmm::CpuidPolicy(vmm::CpuidPolicy::Build({}));
  for (unsigned i = 1; i < static_cast<unsigned>(Feature::kCount); ++i) {
    const FeatureInfo& info = kFeatureInfo[i];
    if (policy.Has(info.cpuid) && (!info.native || host.Has(info.cpuid))) bits_ |= uint64_t{1} << i;
  }
  for (const auto& [bits, feature] : kCr4Bits) {
    if (policy.Has(feature)) cr4_bits_ |= bits;
  }
}

}  // namespace bt
