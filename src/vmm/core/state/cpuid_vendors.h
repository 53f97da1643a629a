// Where CPUID differs between Intel's processors and AMD's: all of it, in one table. VIA and
// Zhaoxin follow Intel, Hygon follows AMD.
#pragma once

#include <cstdint>
#include <span>

#include "vmm/core/state/cpuid_policy.h"

namespace vmm {

// Of whole leaves.
struct VendorHabits {
  bool cache_leaves;  // leaves 2 and 4 describe the caches; else 0x80000005 and 0x80000006 do
  bool
      repeats_last_leaf;  // a leaf beyond the last one is answered as the last basic one; else zero
  // 0x80000008 EBX and 0x80000021 tell of speculation; else leaf 7 EDX and IA32_ARCH_CAPABILITIES
  bool speculation_leaves;
};

const VendorHabits& HabitsOf(bool intel_style);

// What a field holds.
enum class VendorValue : uint8_t {
  kZero,
  kHost,       // what the host has there
  kManyCpus,   // all ones when there is more than one processor
  kCoreCount,  // 7:0 = processors - 1, 15:12 = bits of the APIC id that number them
  kLeaf1,      // the same bits of the same register of leaf 1
};

// Of a field: the bits `mask` of a register of a leaf without subleaves.
struct VendorField {
  uint32_t leaf;
  CpuidReg reg;
  uint32_t mask;
  VendorValue intel, amd;

  VendorValue ValueFor(bool intel_style) const { return intel_style ? intel : amd; }
};

std::span<const VendorField> VendorFields();

}  // namespace vmm
