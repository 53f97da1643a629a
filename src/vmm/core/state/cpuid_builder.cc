#include "vmm/core/state/cpuid_builder.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include "vmm/core/state/cpu_state.h"
#include "vmm/core/state/cpuid_features.h"
#include "vmm/core/state/cpuid_vendors.h"
#include "vmm/core/state/host_cpuid.h"

namespace vmm {
namespace {

constexpr uint32_t kMaxBasic = 0x16;
constexpr uint32_t kMaxHypervisor = 0x40000010;
constexpr uint32_t kMaxExtended = 0x80000008, kSpeculation = 0x80000021;
constexpr uint32_t kCrystalHz = 1'000'000'000;  // also what the local APIC's timer counts

// A vendor string as leaves 0 and 0x40000000 spread it over registers.
constexpr uint32_t Word(const char (&text)[5]) {
  return static_cast<uint32_t>(text[0]) | static_cast<uint32_t>(text[1]) << 8 |
         static_cast<uint32_t>(text[2]) << 16 | static_cast<uint32_t>(text[3]) << 24;
}

// AuthenticAMD and its licensee HygonGenuine lay out the extended leaves so; everyone else follows
// Intel.
bool FollowsAmd(const CpuidRegs& leaf0) {
  return leaf0.ebx == Word("Auth") || leaf0.ebx == Word("Hygo");
}

struct Ratio {
  uint32_t numerator = 0, denominator = 1;
};

// hz / kCrystalHz as a fraction. Linux multiplies the crystal's kHz by the numerator in 32 bits
// (native_calibrate_tsc), so the numerator stays below 2^32 / 10^6: the nearest such fraction is
// off by less than 1 ppm.
Ratio TscRatio(uint64_t hz) {
  constexpr uint64_t kMaxNumerator = 4294;
  Ratio best;
  double best_error = 1e18;
  for (uint64_t q = 1; q <= 10'000; ++q) {
    const uint64_t p = (hz * q + kCrystalHz / 2) / kCrystalHz;
    if (p > kMaxNumerator) break;
    const double error = std::abs(static_cast<double>(p) * kCrystalHz / static_cast<double>(q) -
                                  static_cast<double>(hz));
    if (error < best_error) {
      best_error = error;
      best = {static_cast<uint32_t>(p), static_cast<uint32_t>(q)};
    }
  }
  return best;
}

}  // namespace

CpuidBuilder::CpuidBuilder(const CpuidOptions& options, const CpuidSource& host)
    : host_(host),
      choice_(options.cpu),
      model_(FindCpuModel(options.cpu.model)),
      cpus_(std::max(options.cpu_count, 1u)),
      core_id_bits_(static_cast<unsigned>(std::bit_width(cpus_ - 1))),
      tsc_hz_(options.tsc_hz),
      mitigations_(options.mitigations) {
  policy_.intel_style_ = is_legacy() || !FollowsAmd(host_(0, 0));
}

CpuidPolicy CpuidBuilder::Build() {
  AddBasic();
  if (!is_legacy()) {
    AddCaches();
    AddTopology();
    AddTscFrequency();
    AddHypervisor();
    AddExtended();
    CollectXsaveComponents();
    AddVendorFields();
    Add(kArchCapabilitiesLeaf, {});
  }
  AddFeatures();
  policy_.FillDerived();
  return std::move(policy_);
}

// What the host does not have reads as zero, whatever the vendor's habit is.
CpuidRegs CpuidBuilder::HostLeaf(uint32_t leaf, uint32_t subleaf) const {
  const uint32_t last = host_(leaf & 0x80000000, 0).eax;
  return leaf <= last ? host_(leaf, subleaf) : CpuidRegs{};
}

CpuidRegs& CpuidBuilder::Add(uint32_t leaf, const CpuidRegs& regs) {
  return policy_.entries_.emplace_back(CpuidEntry{.leaf = leaf, .regs = regs}).regs;
}

CpuidRegs& CpuidBuilder::AddSubleaf(uint32_t leaf, uint32_t subleaf, const CpuidRegs& regs) {
  return policy_.entries_
      .emplace_back(CpuidEntry{.leaf = leaf, .subleaf = subleaf, .has_subleaf = true, .regs = regs})
      .regs;
}

// Leaves 0, 1, 6 and 7 without their features.
void CpuidBuilder::AddBasic() {
  if (is_legacy()) {
    Add(0, {.eax = 1, .ebx = Word("Genu"), .ecx = Word("ntel"), .edx = Word("ineI")});
    Add(1, {.eax = model_->signature});
    return;
  }
  CpuidRegs vendor = host_(0, 0);
  vendor.eax = kMaxBasic;
  Add(0, vendor);

  CpuidRegs& one = Add(1, {.eax = host_(1, 0).eax});
  one.ebx = 8 << 8 | cpus_ << 16;     // CLFLUSH line of 64 bytes, logical processors
  if (cpus_ > 1) one.edx = 1u << 28;  // HTT: more than one logical processor in the package

  Add(6, {});
  AddSubleaf(7, 0, {});
  AddSubleaf(0xd, 1, {});
}

// Leaves 2 and 4 as the host has them, shared as one socket of single-threaded cores shares them.
void CpuidBuilder::AddCaches() {
  if (!HabitsOf(policy_.intel_style_).cache_leaves) return;
  Add(2, HostLeaf(2));
  for (uint32_t subleaf = 0; subleaf < 8; ++subleaf) {
    CpuidRegs cache = HostLeaf(4, subleaf);
    if ((cache.eax & 0x1f) == 0) break;
    const uint32_t level = cache.eax >> 5 & 7;
    const uint32_t id_space_less_1 = (1u << core_id_bits_) - 1;
    const uint32_t sharing_less_1 = level >= 3 ? id_space_less_1 : 0;
    cache.eax = (cache.eax & 0x3fff) | sharing_less_1 << 14 | id_space_less_1 << 26;
    cache.edx &= ~4u;  // no complex indexing to know about
    AddSubleaf(4, subleaf, cache);
  }
}

// [SDM 2A] CPUID, leaf 0BH: one thread a core, `cpus_` cores. EDX is filled per CPU.
void CpuidBuilder::AddTopology() {
  AddSubleaf(0xb, 0, {.eax = 0, .ebx = 1, .ecx = 1 << 8 | 0});
  AddSubleaf(0xb, 1, {.eax = core_id_bits_, .ebx = cpus_, .ecx = 2 << 8 | 1});
}

void CpuidBuilder::AddTscFrequency() {
  if (tsc_hz_ == 0) return;
  const Ratio ratio = TscRatio(tsc_hz_);
  Add(0x15, {.eax = ratio.denominator, .ebx = ratio.numerator, .ecx = kCrystalHz});
  const auto mhz = static_cast<uint32_t>((tsc_hz_ + 500'000) / 1'000'000);
  Add(0x16, {.eax = mhz, .ebx = mhz, .ecx = 100});
}

void CpuidBuilder::AddHypervisor() {
  Add(0x40000000, {.eax = kMaxHypervisor, .ebx = Word("KVMK"), .ecx = Word("VMKV"), .edx = 'M'});
  Add(0x40000001, {});
  if (tsc_hz_ == 0) return;
  Add(0x40000010, {.eax = static_cast<uint32_t>((tsc_hz_ + 500) / 1000), .ebx = kCrystalHz / 1000});
}

void CpuidBuilder::AddExtended() {
  CpuidRegs vendor = HostLeaf(0x80000000);
  const bool speculation = HabitsOf(policy_.intel_style_).speculation_leaves;
  vendor.eax = speculation ? kSpeculation : kMaxExtended;
  Add(0x80000000, vendor);

  Add(0x80000001, {});
  for (uint32_t leaf = 0x80000002; leaf <= 0x80000004; ++leaf) Add(leaf, HostLeaf(leaf));  // name
  Add(0x80000005, HostLeaf(0x80000005));
  Add(0x80000006, HostLeaf(0x80000006));
  Add(0x80000007, {});

  const uint32_t host_widths = HostLeaf(0x80000008).eax;
  const uint32_t physical = host_widths & 0xff ? host_widths & 0xff : 36;
  Add(0x80000008, {.eax = physical | 48 << 8});
  if (speculation) Add(kSpeculation, {});
}

// But for kLeaf1, which follows from the features: CpuidPolicy::FillDerived.
void CpuidBuilder::AddVendorFields() {
  for (const VendorField& field : VendorFields()) {
    CpuidEntry* const entry = policy_.Find(field.leaf, 0);
    if (entry == nullptr) continue;
    uint32_t value = 0;
    switch (field.ValueFor(policy_.intel_style_)) {
      case VendorValue::kHost:
        value = HostLeaf(field.leaf)[field.reg];
        break;
      case VendorValue::kManyCpus:
        value = cpus_ > 1 ? ~0u : 0;
        break;
      case VendorValue::kCoreCount:
        value = (cpus_ - 1) | core_id_bits_ << 12;
        break;
      case VendorValue::kZero:
      case VendorValue::kLeaf1:
        break;
    }
    entry->regs[field.reg] |= value & field.mask;
  }
}

// What the user takes away, and what hangs on it.
std::set<std::string_view> CpuidBuilder::Removed() const {
  std::set<std::string_view> removed(choice_.remove.begin(), choice_.remove.end());
  for (size_t before = 0; before != removed.size();) {
    before = removed.size();
    for (const FeatureDependency& dependency : FeatureDependencies()) {
      if (removed.count(dependency.needs)) removed.insert(dependency.feature);
    }
  }
  return removed;
}

// Which features, and which of them must not be missing later.
void CpuidBuilder::AddFeatures() {
  const std::set<std::string_view> removed = Removed();
  const auto has = [](const auto& list, std::string_view name) {
    return std::ranges::find(list, name) != std::ranges::end(list);
  };
  for (const CpuidFeature& feature : CpuidFeatures()) {
    const bool of_model = model_ != nullptr && has(model_->features, feature.name);
    const bool added = has(choice_.add, feature.name);
    const bool ours = feature.rule != FeatureRule::kHost && !is_legacy();
    if (removed.count(feature.name)) continue;
    if (of_model || added) policy_.required_.emplace_back(feature.name);
    if (model_ == nullptr || of_model || added || ours) AddFeature(feature);
  }
}

void CpuidBuilder::AddFeature(const CpuidFeature& feature) {
  CpuidEntry* const entry = policy_.Find(feature.leaf, feature.subleaf);
  if (entry == nullptr) return;  // a processor too old for the leaf
  const uint32_t bit = 1u << feature.bit;
  if (feature.rule == FeatureRule::kEngine) {
    if (mitigations_ == Mitigations::kHost) return;
    // Each vendor has places of its own for them; IA32_ARCH_CAPABILITIES is Intel's alone.
    const bool of_amd = feature.leaf >= kMaxExtended;
    if (of_amd != HabitsOf(policy_.intel_style_).speculation_leaves) return;
  }
  const bool modelled = feature.rule != FeatureRule::kHost;
  if (modelled || (HostLeaf(feature.leaf, feature.subleaf)[feature.reg] & bit))
    entry->regs[feature.reg] |= bit;
}

void CpuidBuilder::CollectXsaveComponents() {
  for (const XsaveComponent& component : XsaveComponents()) {
    const CpuidRegs regs = HostLeaf(0xd, component.bit);
    if (regs.eax == 0 || uint64_t{regs.eax} + regs.ebx > XsaveArea::kSize) continue;
    // Engines rely on where AVX is; every processor that has it keeps it there.
    if (component.bit == 2 && (regs.ebx != 576 || regs.eax != 256)) continue;
    policy_.host_components_.push_back(
        {.leaf = 0xd, .subleaf = component.bit, .has_subleaf = true, .regs = regs});
  }
}

CpuidPolicy CpuidPolicy::Build(const CpuidOptions& options) {
  return Build(options, HostCpuid);
}

CpuidPolicy CpuidPolicy::Build(const CpuidOptions& options, const CpuidSource& host) {
  return CpuidBuilder(options, host).Build();
}

}  // namespace vmm
