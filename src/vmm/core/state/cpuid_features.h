// The closed list of CPU features that a guest may see.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "vmm/core/state/cpuid_policy.h"

namespace vmm {

// When a feature is offered, before an engine restricts the whole to what it can give.
enum class FeatureRule : uint8_t {
  kHost,    // where the host has it: its instructions or paging run there, or behave as there
  kAlways,  // it is ours: a model of src/vmm/core or of the engine gives it on any host
  // About speculation. Code that a software engine runs is never the guest's own, so it promises
  // all of them on any host; KVM what its own list has. Not with Mitigations::kHost.
  kEngine,
};

// Where Restrict() finds out whether an engine has the feature.
enum class EngineCheck : uint8_t {
  kListed,    // in the engine's own CPUID list (KVM_GET_SUPPORTED_CPUID)
  kUnlisted,  // such lists never show it; the engine refuses to start without it, or always has it
};

// Not a leaf of CPUID: EDX:EAX stand for IA32_ARCH_CAPABILITIES, whose bits are features as well.
// No guest and no KVM is shown it.
inline constexpr uint32_t kArchCapabilitiesLeaf = 0x2000010a;
inline constexpr uint32_t kIa32ArchCapabilities = 0x10a;  // the register

struct CpuidFeature {
  uint32_t leaf;
  uint32_t subleaf;
  CpuidReg reg;
  uint8_t bit;
  std::string_view name;  // as /proc/cpuinfo spells it
  FeatureRule rule;
  EngineCheck check = EngineCheck::kListed;
};

// All features, in the order of leaf, register and bit. A bit that is in no row is never set.
std::span<const CpuidFeature> CpuidFeatures();

// `feature` is never offered without `needs`; both are names of CpuidFeatures().
struct FeatureDependency {
  std::string_view feature, needs;
};
std::span<const FeatureDependency> FeatureDependencies();

// A component of the XSAVE area. It is offered when its feature is.
struct XsaveComponent {
  unsigned bit;              // in XCR0
  std::string_view feature;  // a name of CpuidFeatures()
};

// Components beyond x87 and SSE, which come with XSAVE itself. [SDM 1] 13.1
std::span<const XsaveComponent> XsaveComponents();

}  // namespace vmm
