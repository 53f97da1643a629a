// Makes a CpuidPolicy from a host's CPUID, leaf by leaf.
#pragma once

#include "vmm/core/state/cpuid_policy.h"

namespace vmm {

class CpuidBuilder {
 public:
  CpuidBuilder(const CpuidOptions& options, const CpuidSource& host);
  CpuidPolicy Build();

 private:
  bool is_amd() const { return !policy_.intel_style_; }
  CpuidRegs HostLeaf(uint32_t leaf, uint32_t subleaf = 0) const;
  CpuidRegs& Add(uint32_t leaf, const CpuidRegs& regs);
  CpuidRegs& AddSubleaf(uint32_t leaf, uint32_t subleaf, const CpuidRegs& regs);

  void AddBasic();
  void AddCaches();
  void AddTopology();
  void AddTscFrequency();
  void AddHypervisor();
  void AddExtended();
  void AddFeatures();
  void CollectXsaveComponents();

  const CpuidSource& host_;
  const unsigned cpus_;
  const unsigned core_id_bits_;  // bits of the APIC id that number the cores
  const uint64_t tsc_hz_;
  CpuidPolicy policy_;
};

}  // namespace vmm
