// One CPUID policy for all engines: what the guest's CPUID answers, so that a machine can move
// between engines.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "vmm/core/state/cpu_models.h"

namespace vmm {

enum class CpuidReg : uint8_t { EAX, EBX, ECX, EDX };

struct CpuidRegs {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;

  constexpr uint32_t& operator[](CpuidReg reg) {
    return reg == CpuidReg::EAX   ? eax
           : reg == CpuidReg::EBX ? ebx
           : reg == CpuidReg::ECX ? ecx
                                  : edx;
  }
  constexpr uint32_t operator[](CpuidReg reg) const { return CpuidRegs(*this)[reg]; }
  friend bool operator==(const CpuidRegs&, const CpuidRegs&) = default;
};

struct CpuidEntry {
  uint32_t leaf = 0, subleaf = 0;
  bool has_subleaf = false;  // the answer depends on ECX
  CpuidRegs regs;
};

// Answers CPUID with EAX = leaf, ECX = subleaf: a host's, replaceable in tests (host_cpuid.h).
using CpuidSource = std::function<CpuidRegs(uint32_t leaf, uint32_t subleaf)>;

struct CpuidFeature;

// Which defences against speculative side channels a guest is told that it can do without.
enum class Mitigations : uint8_t {
  kEngine,  // all that the engine makes needless, or helps with
  kHost,    // under a software engine none: any KVM can take the machine over
};

struct CpuidOptions {
  unsigned cpu_count = 1;  // one socket with so many cores
  uint64_t tsc_hz = 0;     // Clock::tsc_hz(); 0 = the guest is not told
  Mitigations mitigations = Mitigations::kEngine;
  CpuChoice cpu{};  // which processor; features that neither host nor model has are missing
};

// Threads: immutable but for Restrict().
class CpuidPolicy {
 public:
  // The features of cpuid_features.cc that the host has, of a named model those that it has, and
  // around them what the host says of its vendor, model, caches and address width.
  static CpuidPolicy Build(const CpuidOptions& options);
  static CpuidPolicy Build(const CpuidOptions& options, const CpuidSource& host);

  // The bits of leaves 1 and 0xd that follow control registers. [SDM 2A] CPUID
  struct Dynamic {
    bool cr4_osxsave = false, apic_enabled = true;
    uint64_t xcr0 = 1;
  };
  // What CPU `apic_id` answers. A leaf beyond the last one is answered as the vendor does.
  CpuidRegs Query(uint32_t leaf, uint32_t subleaf, uint32_t apic_id) const;
  CpuidRegs Query(uint32_t leaf, uint32_t subleaf, uint32_t apic_id, const Dynamic& dynamic) const;

  // All leaves as CPU `apic_id` sees them, for KVM_SET_CPUID2 and `vmm inspect`.
  std::vector<CpuidEntry> EntriesFor(uint32_t apic_id) const;
  const std::vector<CpuidEntry>& entries() const { return entries_; }  // of CPU 0

  // Takes away the features that `supported`, the engine's own list, does not have, and what hangs
  // on them; lowers the address width to the engine's. Returns the names of what went.
  std::vector<std::string_view> Restrict(const std::vector<CpuidEntry>& supported);

  // What the chosen processor must have and this host or engine does not give, by name. A machine
  // must not start with it.
  std::vector<std::string_view> Missing() const;
  // All that the guest sees, by name, in the order of the table.
  std::vector<std::string_view> FeatureNames() const;

  // The vendor's way where Intel and AMD differ: Intel's.
  bool intel_style() const { return intel_style_; }
  uint32_t signature() const;          // CPUID.1:EAX
  uint64_t arch_capabilities() const;  // IA32_ARCH_CAPABILITIES, where there is one
  uint64_t xcr0_mask() const;          // bits that XSETBV accepts; 0 without XSAVE
  unsigned physical_address_bits() const;
  // A feature by its CPUID place: register 0..3 = EAX..EDX.
  bool Has(uint32_t leaf, uint32_t subleaf, unsigned reg, unsigned bit) const;
  // By its name in cpuid_features.cc; false for a name that is not there.
  bool Has(std::string_view feature) const;

 private:
  friend class CpuidBuilder;
  CpuidEntry* Find(uint32_t leaf, uint32_t subleaf);
  const CpuidEntry* Find(uint32_t leaf, uint32_t subleaf) const;
  // What follows from the features. To be called when they have changed. Returns the names of those
  // that lack what they depend on, and so are gone.
  std::vector<std::string_view> FillDerived();
  void Clear(std::string_view feature);
  void FillXsave();

  std::vector<CpuidEntry> entries_;
  // The XSAVE components that the host has, with subleaf = the bit in XCR0. [SDM 1] 13.2
  std::vector<CpuidEntry> host_components_;
  std::vector<std::string> required_;  // by the model and the user
  bool intel_style_ = false;  // leaves beyond the last one repeat it; leaf 4 describes caches
};

}  // namespace vmm
