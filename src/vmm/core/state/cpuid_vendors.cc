#include "vmm/core/state/cpuid_vendors.h"

namespace vmm {
namespace {

using enum CpuidReg;
using enum VendorValue;

// [SDM 2A] CPUID
constexpr VendorHabits kIntel = {
    .cache_leaves = true, .repeats_last_leaf = true, .speculation_leaves = false};
// [APM 3] E.2, E.4.4
constexpr VendorHabits kAmd = {
    .cache_leaves = false, .repeats_last_leaf = false, .speculation_leaves = true};

// The column of AMD is checked against the manual and untested on hardware.
constexpr VendorField kFields[] = {
    // leaf, register, mask, Intel, AMD
    {0x80000001, EAX, 0xffffffff, kZero, kHost},       // family, model, stepping once more: E.4.2
    {0x80000001, ECX, 0x00000002, kZero, kManyCpus},   // CmpLegacy: its processors are cores
    {0x80000001, EDX, 0x0183f3ff, kZero, kLeaf1},      // the old features once more
    {0x80000008, ECX, 0x0000f0ff, kZero, kCoreCount},  // NC, ApicIdSize: E.4.7
};

}  // namespace

const VendorHabits& HabitsOf(bool intel_style) {
  return intel_style ? kIntel : kAmd;
}

std::span<const VendorField> VendorFields() {
  return kFields;
}

}  // namespace vmm
