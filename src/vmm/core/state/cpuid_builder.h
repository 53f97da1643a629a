// Makes a CpuidPolicy from a host's CPUID, leaf by leaf.
#pragma once

#include <set>
#include <string_view>

#include "vmm/core/state/cpuid_features.h"
#include "vmm/core/state/cpuid_policy.h"

namespace vmm {

class CpuidBuilder {
 public:
  CpuidBuilder(const CpuidOptions& options, const CpuidSource& host);
  CpuidPolicy Build();

 private:
  bool is_legacy() const { return model_ != nullptr && model_->legacy; }
  CpuidRegs HostLeaf(uint32_t leaf, uint32_t subleaf = 0) const;
  CpuidRegs& Add(uint32_t leaf, const CpuidRegs& regs);
  CpuidRegs& AddSubleaf(uint32_t leaf, uint32_t subleaf, const CpuidRegs& regs);

  void AddBasic();
  void AddCaches();
  void AddTopology();
  void AddTscFrequency();
  void AddHypervisor();
  void AddExtended();
  void AddVendorFields();
  void AddFeatures();
  std::set<std::string_view> Removed() const;
  void AddFeature(const CpuidFeature& feature);
  void CollectXsaveComponents();

  const CpuidSource& host_;
  const CpuChoice& choice_;
  const CpuModel* const model_;  // null: the host
  const unsigned cpus_;
  const unsigned core_id_bits_;  // bits of the APIC id that number the cores
  const uint64_t tsc_hz_;
  const Mitigations mitigations_;
  CpuidPolicy policy_;
};

}  // namespace vmm
