#include "vmm/core/state/cpuid_features.h"

namespace vmm {
namespace {

using enum CpuidReg;
using enum FeatureRule;
using enum EngineCheck;

// A row is added when every engine gives the feature, and never before: a guest uses what it sees.
// The comment of a row says which part of the interpreter (src/bt) gives it; KVM gives it where
// its own list has it. [SDM 2A] CPUID, [APM 3] E
//
// Not here, on purpose: VMX and SVM, TSX, PKU, CET, AMX, LA57, SGX, MONITOR, performance counters
// (no engine gives them to every guest); AVX-512, which the interpreter has not.
constexpr CpuidFeature kFeatures[] = {
    {0x1, 0, ECX, 0, "pni", kHost},                               // vector: SSE3; x87 FISTTP
    {0x1, 0, ECX, 1, "pclmulqdq", kHost},                         // vector
    {0x1, 0, ECX, 9, "ssse3", kHost},                             // vector
    {0x1, 0, ECX, 12, "fma", kHost},                              // vector
    {0x1, 0, ECX, 13, "cx16", kHost},                             // integer: CMPXCHG16B
    {0x1, 0, ECX, 17, "pcid", kHost},                             // MMU: several address spaces
    {0x1, 0, ECX, 19, "sse4_1", kHost},                           // vector
    {0x1, 0, ECX, 20, "sse4_2", kHost},                           // vector, strings, CRC32
    {0x1, 0, ECX, 21, "x2apic", kAlways},                         // core/irq: local APIC
    {0x1, 0, ECX, 22, "movbe", kHost},                            // integer
    {0x1, 0, ECX, 23, "popcnt", kHost},                           // integer
    {0x1, 0, ECX, 24, "tsc_deadline_timer", kAlways, kUnlisted},  // core/irq: local APIC timer
    {0x1, 0, ECX, 25, "aes", kHost},                              // vector
    {0x1, 0, ECX, 26, "xsave", kHost},                            // system: XSAVE and its kin
    {0x1, 0, ECX, 28, "avx", kHost},                              // vector
    {0x1, 0, ECX, 29, "f16c", kHost},                             // vector
    {0x1, 0, ECX, 30, "rdrand", kHost},                           // system: from the host kernel
    {0x1, 0, ECX, 31, "hypervisor", kAlways, kUnlisted},          // leaves from 0x40000000 on
    {0x1, 0, EDX, 0, "fpu", kHost},                               // x87
    {0x1, 0, EDX, 1, "vme", kHost},                               // system: V86 mode extensions
    {0x1, 0, EDX, 2, "de", kHost},                                // system: I/O breakpoints
    {0x1, 0, EDX, 3, "pse", kHost},                               // MMU: 4 MiB pages
    {0x1, 0, EDX, 4, "tsc", kHost},                               // system: RDTSC from the Clock
    {0x1, 0, EDX, 5, "msr", kHost},                               // system
    {0x1, 0, EDX, 6, "pae", kHost},                               // MMU
    {0x1, 0, EDX, 7, "mce", kHost},                               // system: CR4.MCE, never raised
    {0x1, 0, EDX, 8, "cx8", kHost},                               // integer: CMPXCHG8B
    {0x1, 0, EDX, 9, "apic", kAlways},                            // core/irq: local APIC
    {0x1, 0, EDX, 11, "sep", kHost},                              // system: SYSENTER, SYSEXIT
    {0x1, 0, EDX, 12, "mtrr", kHost},                             // system: stored, without effect
    {0x1, 0, EDX, 13, "pge", kHost},                              // MMU: global pages
    {0x1, 0, EDX, 14, "mca", kHost},                  // system: no banks, MCG_CAP reads 0
    {0x1, 0, EDX, 15, "cmov", kHost},                 // integer, x87
    {0x1, 0, EDX, 16, "pat", kHost},                  // system: stored, without effect
    {0x1, 0, EDX, 17, "pse36", kHost},                // MMU: 4 MiB pages above 4 GiB
    {0x1, 0, EDX, 19, "clflush", kHost},              // integer: no effect but faults
    {0x1, 0, EDX, 23, "mmx", kHost},                  // vector
    {0x1, 0, EDX, 24, "fxsr", kHost},                 // system: FXSAVE, FXRSTOR
    {0x1, 0, EDX, 25, "sse", kHost},                  // vector
    {0x1, 0, EDX, 26, "sse2", kHost},                 // vector
    {0x6, 0, EAX, 2, "arat", kAlways},                // core/irq: local APIC timer
    {0x7, 0, EBX, 0, "fsgsbase", kHost},              // system: RDFSBASE and its kin
    {0x7, 0, EBX, 3, "bmi1", kHost},                  // integer
    {0x7, 0, EBX, 5, "avx2", kHost},                  // vector
    {0x7, 0, EBX, 7, "smep", kHost},                  // MMU
    {0x7, 0, EBX, 8, "bmi2", kHost},                  // integer
    {0x7, 0, EBX, 9, "erms", kHost},                  // integer: REP MOVSB is fast
    {0x7, 0, EBX, 10, "invpcid", kHost},              // system
    {0x7, 0, EBX, 18, "rdseed", kHost},               // system: from the host kernel
    {0x7, 0, EBX, 19, "adx", kHost},                  // integer
    {0x7, 0, EBX, 20, "smap", kHost},                 // MMU; system: CLAC, STAC
    {0x7, 0, EBX, 23, "clflushopt", kHost},           // integer: no effect but faults
    {0x7, 0, EBX, 24, "clwb", kHost},                 // integer: no effect but faults
    {0x7, 0, EBX, 29, "sha_ni", kHost},               // vector
    {0x7, 0, ECX, 2, "umip", kHost},                  // system: SGDT and its kin
    {0x7, 0, ECX, 8, "gfni", kHost},                  // vector
    {0x7, 0, ECX, 9, "vaes", kHost},                  // vector
    {0x7, 0, ECX, 10, "vpclmulqdq", kHost},           // vector
    {0x7, 0, ECX, 22, "rdpid", kHost},                // system, with IA32_TSC_AUX
    {0x7, 0, EDX, 4, "fsrm", kHost},                  // integer: short REP MOVSB is fast
    {0x7, 0, EDX, 10, "md_clear", kEngine},           // VERW
    {0x7, 0, EDX, 26, "spec_ctrl", kEngine},          // system: stored, without effect
    {0x7, 0, EDX, 27, "intel_stibp", kEngine},        // the same
    {0x7, 0, EDX, 29, "arch_capabilities", kEngine},  // system: the rows below
    {0x7, 0, EDX, 31, "ssbd", kEngine},               // system: stored, without effect
    {0xd, 1, EAX, 0, "xsaveopt", kHost},              // system
    {0xd, 1, EAX, 1, "xsavec", kHost},                // system
    {0xd, 1, EAX, 2, "xgetbv1", kHost},               // system
    {0xd, 1, EAX, 3, "xsaves", kHost},                // system: IA32_XSS stays 0
    // IA32_ARCH_CAPABILITIES. [SDM 4] table 2-2
    {kArchCapabilitiesLeaf, 0, EAX, 0, "rdcl_no", kEngine},
    {kArchCapabilitiesLeaf, 0, EAX, 1, "ibrs_all", kEngine},
    {kArchCapabilitiesLeaf, 0, EAX, 3, "skip_l1dfl_vmentry", kEngine},
    {kArchCapabilitiesLeaf, 0, EAX, 4, "ssb_no", kEngine},
    {kArchCapabilitiesLeaf, 0, EAX, 5, "mds_no", kEngine},
    {kArchCapabilitiesLeaf, 0, EAX, 6, "pschange_mc_no", kEngine},
    {kArchCapabilitiesLeaf, 0, EAX, 8, "taa_no", kEngine},
    {kArchCapabilitiesLeaf, 0, EAX, 13, "sbdr_ssdp_no", kEngine},
    {kArchCapabilitiesLeaf, 0, EAX, 14, "fbsdp_no", kEngine},
    {kArchCapabilitiesLeaf, 0, EAX, 15, "psdp_no", kEngine},
    {kArchCapabilitiesLeaf, 0, EAX, 20, "bhi_no", kEngine},
    {kArchCapabilitiesLeaf, 0, EAX, 24, "pbrsb_no", kEngine},
    {kArchCapabilitiesLeaf, 0, EAX, 26, "gds_no", kEngine},
    {kArchCapabilitiesLeaf, 0, EAX, 27, "rfds_no", kEngine},
    {kArchCapabilitiesLeaf, 0, EDX, 30, "its_no", kEngine},
    {0x40000001, 0, EAX, 0, "kvmclock_old", kAlways},      // core/time: PvClock
    {0x40000001, 0, EAX, 1, "kvm_nopiodelay", kAlways},    // port I/O needs no delay
    {0x40000001, 0, EAX, 3, "kvmclock", kAlways},          // core/time: PvClock
    {0x40000001, 0, EAX, 24, "kvmclock_stable", kAlways},  // core/time: PvClock
    {0x80000001, 0, ECX, 0, "lahf_lm", kHost},             // integer
    {0x80000001, 0, ECX, 5, "abm", kHost},                 // integer: LZCNT
    {0x80000001, 0, ECX, 7, "misalignsse", kHost},         // vector: MXCSR.MM, as the host has it
    {0x80000001, 0, ECX, 8, "3dnowprefetch", kHost},       // integer: no effect
    {0x80000001, 0, EDX, 11, "syscall", kHost},            // system: SYSCALL, SYSRET
    {0x80000001, 0, EDX, 20, "nx", kHost},                 // MMU
    {0x80000001, 0, EDX, 26, "pdpe1gb", kHost},            // MMU: 1 GiB pages
    {0x80000001, 0, EDX, 27, "rdtscp", kHost},             // system, with IA32_TSC_AUX
    {0x80000001, 0, EDX, 29, "lm", kHost},                 // all of it
    {0x80000007, 0, EDX, 8, "invariant_tsc", kAlways},     // core/time: Clock
    {0x80000008, 0, EBX, 2, "xsaveerptr", kHost},          // x87: as the host has it
    // Of AMD only (cpuid_vendors.h). [APM 3] E.4.7, E.4.16
    {0x80000008, 0, EBX, 12, "amd_ibpb", kEngine},    // system: no effect
    {0x80000008, 0, EBX, 14, "amd_ibrs", kEngine},    // system: stored, without effect
    {0x80000008, 0, EBX, 15, "amd_stibp", kEngine},   // the same
    {0x80000008, 0, EBX, 24, "amd_ssbd", kEngine},    // the same
    {0x80000008, 0, EBX, 26, "amd_ssb_no", kEngine},  // and more that is not to be feared
    {0x80000008, 0, EBX, 29, "btc_no", kEngine},
    {0x80000008, 0, EBX, 30, "amd_ibpb_ret", kEngine},
    {0x80000021, 0, EAX, 8, "autoibrs", kEngine},  // system: EFER.AIBRSE is stored
    {0x80000021, 0, EAX, 29, "srso_no", kEngine},
    {0x80000021, 0, ECX, 1, "tsa_sq_no", kEngine},
    {0x80000021, 0, ECX, 2, "tsa_l1_no", kEngine},
};

constexpr XsaveComponent kComponents[] = {{2, "avx"}};

// What makes no sense, or is not allowed, without something else. [SDM 1] 10-14
constexpr FeatureDependency kDependencies[] = {
    {"fxsr", "fpu"},
    {"mmx", "fpu"},
    {"sse", "fxsr"},
    {"sse2", "sse"},
    {"pni", "sse2"},
    {"ssse3", "pni"},
    {"spec_ctrl", "msr"},
    {"intel_stibp", "spec_ctrl"},
    {"ssbd", "spec_ctrl"},
    {"arch_capabilities", "msr"},
    {"amd_ibpb", "msr"},
    {"amd_ibrs", "msr"},
    {"amd_stibp", "amd_ibrs"},
    {"amd_ssbd", "amd_ibrs"},
    {"ibrs_all", "spec_ctrl"},
    {"rdcl_no", "arch_capabilities"},
    {"ibrs_all", "arch_capabilities"},
    {"skip_l1dfl_vmentry", "arch_capabilities"},
    {"ssb_no", "arch_capabilities"},
    {"mds_no", "arch_capabilities"},
    {"pschange_mc_no", "arch_capabilities"},
    {"taa_no", "arch_capabilities"},
    {"sbdr_ssdp_no", "arch_capabilities"},
    {"fbsdp_no", "arch_capabilities"},
    {"psdp_no", "arch_capabilities"},
    {"bhi_no", "arch_capabilities"},
    {"pbrsb_no", "arch_capabilities"},
    {"gds_no", "arch_capabilities"},
    {"rfds_no", "arch_capabilities"},
    {"its_no", "arch_capabilities"},
    {"misalignsse", "sse2"},
    {"xsaveerptr", "fxsr"},
    {"sse4_1", "ssse3"},
    {"sse4_2", "sse4_1"},
    {"aes", "sse2"},
    {"pclmulqdq", "sse2"},
    {"sha_ni", "sse2"},
    {"gfni", "sse2"},
    {"xsave", "fxsr"},
    {"xsaveopt", "xsave"},
    {"xsavec", "xsave"},
    {"xgetbv1", "xsave"},
    {"xsaves", "xsavec"},
    {"avx", "xsave"},
    {"avx", "sse4_2"},
    {"avx2", "avx"},
    {"fma", "avx"},
    {"f16c", "avx"},
    {"vaes", "avx"},
    {"vaes", "aes"},
    {"vpclmulqdq", "avx"},
    {"vpclmulqdq", "pclmulqdq"},
    {"x2apic", "apic"},
    {"tsc_deadline_timer", "apic"},
    {"arat", "apic"},
    {"tsc_deadline_timer", "tsc"},
    {"invariant_tsc", "tsc"},
    {"rdtscp", "tsc"},
    {"kvmclock", "tsc"},
    {"kvmclock_old", "tsc"},
    {"kvmclock_stable", "tsc"},
    {"kvmclock", "msr"},
    {"kvmclock_old", "msr"},
    {"x2apic", "msr"},
    {"mtrr", "msr"},
    {"pat", "msr"},
    {"pae", "cx8"},
    {"nx", "pae"},
    {"lm", "pae"},
    {"lm", "sse2"},
    {"pdpe1gb", "lm"},
    {"lahf_lm", "lm"},
    {"cx16", "lm"},
    {"fsgsbase", "lm"},
    {"pcid", "lm"},
};

}  // namespace

std::span<const CpuidFeature> CpuidFeatures() {
  return kFeatures;
}

std::span<const FeatureDependency> FeatureDependencies() {
  return kDependencies;
}

std::span<const XsaveComponent> XsaveComponents() {
  return kComponents;
}

}  // namespace vmm
