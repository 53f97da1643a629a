// One CPUID policy for all engines: what the guest's CPUID answers, so that a machine can move
// between engines.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace vmm {

struct CpuidRegs {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
  friend bool operator==(const CpuidRegs&, const CpuidRegs&) = default;
};

struct CpuidEntry {
  uint32_t leaf = 0, subleaf = 0;
  bool has_subleaf = false;  // the answer depends on ECX
  CpuidRegs regs;
};

// Which of the optional features the engine can give. Everything below them (x87 .. SSE2, CMOV,
// CX8, PAE, PGE, PSE, APIC, SEP, TSC, MSR, NX, SYSCALL, LM) is always there.
struct CpuidOptions {
  unsigned cpu_count = 1;
  uint64_t tsc_hz = 0;
  bool kvm_in_kernel_apic = false;  // KVM: PV features that need the kernel's help may be offered
};

class CpuidPolicy {
 public:
  // Built from the host's CPUID, filtered by the policy table in cpuid_policy.cc: what both engines
  // can give.
  static CpuidPolicy Build(const CpuidOptions& options);

  // Answer for CPU `apic_id`; dynamic bits (OSXSAVE, APIC enable, XCR0 size) are the caller's: see
  // Dynamic().
  CpuidRegs Query(uint32_t leaf, uint32_t subleaf, uint32_t apic_id) const;

  // The bits of leaf 1 and 0xd that follow control registers. [SDM 2A] CPUID
  struct Dynamic {
    bool cr4_osxsave = false, apic_enabled = true;
    uint64_t xcr0 = 1;
  };
  CpuidRegs Query(uint32_t leaf, uint32_t subleaf, uint32_t apic_id, const Dynamic& dynamic) const;

  // All leaves, for KVM_SET_CPUID2 and `vmm inspect`.
  const std::vector<CpuidEntry>& entries() const { return entries_; }
  // Removes features that `supported` (the engine's own list) does not have; returns their names.
  std::vector<std::string_view> Restrict(const std::vector<CpuidEntry>& supported);

  uint32_t signature() const;  // CPUID.1:EAX
  uint64_t xcr0_mask() const;  // bits that XSETBV accepts
  unsigned physical_address_bits() const;
  // A feature by its CPUID place: register 0..3 = EAX..EDX.
  bool Has(uint32_t leaf, uint32_t subleaf, unsigned reg, unsigned bit) const;

 private:
  std::vector<CpuidEntry> entries_;
};

}  // namespace vmm
