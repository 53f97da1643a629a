#include "vmm/core/state/cpuid_policy.h"

#include <algorithm>
#include <utility>

#include "vmm/core/state/cpuid_features.h"
#include "vmm/core/state/cpuid_vendors.h"

namespace vmm {
namespace {

constexpr uint32_t kLegacyAndHeader = 576;  // bytes of the XSAVE area before its components
constexpr uint64_t kX87AndSse = 3;

template <class Entries>
auto* FindIn(Entries& entries, uint32_t leaf, uint32_t subleaf) {
  for (auto& entry : entries) {
    if (entry.leaf == leaf && (!entry.has_subleaf || entry.subleaf == subleaf)) return &entry;
  }
  return static_cast<decltype(&entries[0])>(nullptr);
}

// The fields that hold the number of the CPU that asks.
void PutApicId(CpuidRegs& regs, uint32_t leaf, uint32_t apic_id) {
  if (leaf == 1) regs.ebx = (regs.ebx & 0x00ffffff) | apic_id << 24;
  if (leaf == 0xb) regs.edx = apic_id;
}

}  // namespace

CpuidEntry* CpuidPolicy::Find(uint32_t leaf, uint32_t subleaf) {
  return FindIn(entries_, leaf, subleaf);
}

const CpuidEntry* CpuidPolicy::Find(uint32_t leaf, uint32_t subleaf) const {
  return FindIn(entries_, leaf, subleaf);
}

CpuidRegs CpuidPolicy::Query(uint32_t leaf, uint32_t subleaf, uint32_t apic_id) const {
  const uint32_t leaf_class = leaf >= 0x80000000 ? 0x80000000 : leaf & 0x40000000;
  const CpuidEntry* const first = Find(leaf_class, 0);
  const uint32_t last_basic = Find(0, 0)->regs.eax;
  if (first == nullptr || leaf > first->regs.eax) {
    // Intel answers with the highest basic leaf, AMD with zeros. [SDM 2A] CPUID, [APM 3] E.2
    if (!HabitsOf(intel_style_).repeats_last_leaf) return {};
    leaf = last_basic;
  }
  CpuidRegs regs{};
  if (const CpuidEntry* entry = Find(leaf, subleaf)) {
    regs = entry->regs;
  } else if (leaf == 0xb) {
    regs.ecx = subleaf & 0xff;
  }
  PutApicId(regs, leaf, apic_id);
  return regs;
}

CpuidRegs CpuidPolicy::Query(uint32_t leaf, uint32_t subleaf, uint32_t apic_id,
                             const Dynamic& dynamic) const {
  CpuidRegs regs = Query(leaf, subleaf, apic_id);
  if (leaf == 1) {
    if (dynamic.cr4_osxsave) regs.ecx |= 1u << 27;
    if (!dynamic.apic_enabled) regs.edx &= ~(1u << 9);
  } else if (leaf == 0x80000001 && !intel_style_) {
    if (!dynamic.apic_enabled) regs.edx &= ~(1u << 9);
  } else if (leaf == 0xd && subleaf <= 1 && regs.ebx != 0) {
    regs.ebx = kLegacyAndHeader;
    for (const CpuidEntry& component : host_components_) {
      if (dynamic.xcr0 >> component.subleaf & 1) {
        regs.ebx = std::max(regs.ebx, component.regs.ebx + component.regs.eax);
      }
    }
  }
  return regs;
}

std::vector<CpuidEntry> CpuidPolicy::EntriesFor(uint32_t apic_id) const {
  std::vector<CpuidEntry> entries = entries_;
  std::erase_if(entries,
                [](const CpuidEntry& entry) { return entry.leaf == kArchCapabilitiesLeaf; });
  for (CpuidEntry& entry : entries) PutApicId(entry.regs, entry.leaf, apic_id);
  return entries;
}

std::vector<std::string_view> CpuidPolicy::Restrict(const std::vector<CpuidEntry>& supported) {
  std::vector<std::string_view> removed;
  for (const CpuidFeature& feature : CpuidFeatures()) {
    if (feature.check == EngineCheck::kUnlisted) continue;
    const uint32_t bit = 1u << feature.bit;
    CpuidEntry* const ours = Find(feature.leaf, feature.subleaf);
    if (ours == nullptr || (ours->regs[feature.reg] & bit) == 0) continue;
    const CpuidEntry* theirs = FindIn(supported, feature.leaf, feature.subleaf);
    if (theirs != nullptr && (theirs->regs[feature.reg] & bit)) continue;
    ours->regs[feature.reg] &= ~bit;
    removed.push_back(feature.name);
  }
  const CpuidEntry* const widths = FindIn(supported, 0x80000008, 0);
  if (CpuidEntry* const ours = Find(0x80000008, 0); ours != nullptr && widths != nullptr) {
    const uint32_t physical = widths->regs.eax & 0xff;
    if (physical != 0 && physical < (ours->regs.eax & 0xff))
      ours->regs.eax = (ours->regs.eax & ~0xffu) | physical;
  }
  const CpuidEntry* xsave = FindIn(supported, 0xd, 0);
  std::erase_if(host_components_, [xsave](const CpuidEntry& component) {
    return xsave == nullptr || !(xsave->regs.eax >> component.subleaf & 1);
  });
  const auto dependents = FillDerived();
  removed.insert(removed.end(), dependents.begin(), dependents.end());
  return removed;
}

void CpuidPolicy::Clear(std::string_view name) {
  for (const CpuidFeature& feature : CpuidFeatures()) {
    if (feature.name != name) continue;
    if (CpuidEntry* entry = Find(feature.leaf, feature.subleaf))
      entry->regs[feature.reg] &= ~(1u << feature.bit);
  }
}

std::vector<std::string_view> CpuidPolicy::Missing() const {
  std::vector<std::string_view> missing;
  for (const std::string& name : required_) {
    if (!Has(name)) missing.push_back(name);
  }
  return missing;
}

std::vector<std::string_view> CpuidPolicy::FeatureNames() const {
  std::vector<std::string_view> names;
  for (const CpuidFeature& feature : CpuidFeatures()) {
    if (Has(feature.name)) names.push_back(feature.name);
  }
  return names;
}

std::vector<std::string_view> CpuidPolicy::FillDerived() {
  std::vector<std::string_view> removed;
  for (bool changed = true; changed;) {
    changed = false;
    for (const FeatureDependency& dependency : FeatureDependencies()) {
      if (!Has(dependency.feature) || Has(dependency.needs)) continue;
      Clear(dependency.feature);
      removed.push_back(dependency.feature);
      changed = true;
    }
  }
  for (const VendorField& field : VendorFields()) {
    CpuidEntry* const entry = Find(field.leaf, 0);
    if (entry == nullptr || field.ValueFor(intel_style_) != VendorValue::kLeaf1) continue;
    uint32_t& value = entry->regs[field.reg];
    value = (value & ~field.mask) | (Find(1, 0)->regs[field.reg] & field.mask);
  }
  FillXsave();
  return removed;
}

// Leaf 0xd follows from XSAVE and the features of its components. [SDM 1] 13.2
void CpuidPolicy::FillXsave() {
  std::erase_if(entries_,
                [](const CpuidEntry& entry) { return entry.leaf == 0xd && entry.subleaf != 1; });
  CpuidEntry* const extensions = Find(0xd, 1);  // its EAX holds features, EBX a size
  if (extensions) extensions->regs.ebx = 0;
  if (!Has("xsave")) return;
  std::erase_if(host_components_, [this](const CpuidEntry& component) {
    const auto rows = XsaveComponents();
    const auto row = std::find_if(rows.begin(), rows.end(), [&](const XsaveComponent& candidate) {
      return candidate.bit == component.subleaf;
    });
    return row == rows.end() || !Has(row->feature);
  });
  CpuidRegs area = {.eax = kX87AndSse, .ebx = kLegacyAndHeader, .ecx = kLegacyAndHeader};
  for (const CpuidEntry& component : host_components_) {
    area.eax |= 1u << component.subleaf;
    area.ecx = std::max(area.ecx, component.regs.ebx + component.regs.eax);
  }
  if (Has("xsavec")) extensions->regs.ebx = area.ecx;  // with AVX alone, compacting moves nothing
  entries_.push_back({.leaf = 0xd, .subleaf = 0, .has_subleaf = true, .regs = area});
  entries_.insert(entries_.end(), host_components_.begin(), host_components_.end());
  std::sort(entries_.begin(), entries_.end(), [](const CpuidEntry& a, const CpuidEntry& b) {
    return std::pair(a.leaf, a.subleaf) < std::pair(b.leaf, b.subleaf);
  });
}

uint32_t CpuidPolicy::signature() const {
  return Find(1, 0)->regs.eax;
}

uint64_t CpuidPolicy::arch_capabilities() const {
  const CpuidEntry* bits = Find(kArchCapabilitiesLeaf, 0);
  return bits == nullptr ? 0 : bits->regs.eax | uint64_t{bits->regs.edx} << 32;
}

uint64_t CpuidPolicy::xcr0_mask() const {
  const CpuidEntry* area = Find(0xd, 0);
  return area == nullptr ? 0 : area->regs.eax | uint64_t{area->regs.edx} << 32;
}

unsigned CpuidPolicy::physical_address_bits() const {
  if (const CpuidEntry* widths = Find(0x80000008, 0)) return widths->regs.eax & 0xff;
  return Has("pae") || Has("pse36") ? 36 : 32;  // [SDM 3A] 4.1.4
}

bool CpuidPolicy::Has(uint32_t leaf, uint32_t subleaf, unsigned reg, unsigned bit) const {
  const CpuidEntry* entry = Find(leaf, subleaf);
  return entry != nullptr && (entry->regs[static_cast<CpuidReg>(reg)] >> bit & 1);
}

bool CpuidPolicy::Has(std::string_view name) const {
  for (const CpuidFeature& feature : CpuidFeatures()) {
    if (feature.name == name)
      return Has(feature.leaf, feature.subleaf, static_cast<unsigned>(feature.reg), feature.bit);
  }
  return false;
}

}  // namespace vmm
