#include "vmm/core/state/cpuid_policy.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <map>
#include <set>
#include <string>

#include "vmm/core/state/cpuid_features.h"
#include "vmm/core/state/host_cpuid.h"

namespace {

using vmm::CpuidEntry;
using vmm::CpuidOptions;
using vmm::CpuidPolicy;
using vmm::CpuidReg;
using vmm::CpuidRegs;

constexpr uint64_t kTscHz = 2'596'123'000;

// A host that has every bit of every leaf, of a vendor of choice.
struct Host {
  std::map<std::pair<uint32_t, uint32_t>, CpuidRegs> leaves;

  CpuidRegs operator()(uint32_t leaf, uint32_t subleaf) const {
    const auto entry = leaves.find({leaf, subleaf});
    return entry == leaves.end() ? CpuidRegs{} : entry->second;
  }
};

Host Intel() {
  Host host;
  host.leaves[{0, 0}] = {0x1f, 0x756e6547, 0x6c65746e, 0x49656e69};
  host.leaves[{1, 0}] = {0x000806f8, 0xffffffff, 0xffffffff, 0xffffffff};
  host.leaves[{2, 0}] = {0x00feff01, 0xf0, 0, 0};
  host.leaves[{4, 0}] = {0xfc004121, 0x02c0003f, 0x3f, 0};     // L1d, level 1
  host.leaves[{4, 1}] = {0xfc004122, 0x01c0003f, 0x3f, 0};     // L1i
  host.leaves[{4, 2}] = {0xfc004143, 0x03c0003f, 0x7ff, 0};    // L2
  host.leaves[{4, 3}] = {0xfc1fc163, 0x0380003f, 0x1ffff, 4};  // L3
  host.leaves[{6, 0}] = host.leaves[{0x80000007, 0}] = {~0u, ~0u, ~0u, ~0u};
  host.leaves[{7, 0}] = {2, ~0u, ~0u, ~0u};
  host.leaves[{0xd, 0}] = {0xe7, 0xa88, 0xa88, 0};
  host.leaves[{0xd, 1}] = {0x1f, 0, 0, 0};
  host.leaves[{0xd, 2}] = {256, 576, 0, 0};
  host.leaves[{0x80000000, 0}] = {0x80000008, 0, 0, 0};
  host.leaves[{0x80000001, 0}] = {0, 0, ~0u, ~0u};
  host.leaves[{0x80000002, 0}] = {0x65746e49, 0x2952286c, 0, 0};
  host.leaves[{0x80000006, 0}] = {0, 0, 0x08007040, 0};
  host.leaves[{0x80000008, 0}] = {0x392e, ~0u, 0, 0};
  return host;
}

Host Amd() {
  Host host = Intel();
  host.leaves[{0, 0}] = {0x10, 0x68747541, 0x444d4163, 0x69746e65};
  host.leaves[{0x80000000, 0}] = {0x80000021, 0x68747541, 0x444d4163, 0x69746e65};
  host.leaves[{0x80000001, 0}] = {0x00b00f21, 0x40000000, ~0u, ~0u};
  host.leaves[{0x80000005, 0}] = {0xff60ff40, 0xff60ff40, 0x300c0140, 0x20080140};
  host.leaves[{0x80000008, 0}] = {0x3030, ~0u, 0x7001, 0};
  host.leaves[{0x8000001e, 0}] = {1, 1, 0, 0};
  return host;
}

CpuidPolicy Build(const Host& host, unsigned cpus = 1) {
  return CpuidPolicy::Build({.cpu_count = cpus, .tsc_hz = kTscHz}, host);
}

TEST_CASE("A bit that has no row in the feature table is never offered") {
  std::set<std::tuple<uint32_t, uint32_t, int, int>> allowed = {
      {1, 0, 3, 28},           // HTT follows the number of CPUs
      {0x80000001, 0, 2, 1}};  // CmpLegacy, too
  for (const vmm::CpuidFeature& f : vmm::CpuidFeatures()) {
    allowed.insert({f.leaf, f.subleaf, static_cast<int>(f.reg), f.bit});
  }
  for (int bit = 0; bit < 32; ++bit) {  // AMD's copy of leaf 1
    if (allowed.contains({1, 0, 3, bit})) allowed.insert({0x80000001, 0, 3, bit});
  }
  for (const Host& host : {Intel(), Amd()}) {
    const CpuidPolicy policy = Build(host, 4);
    for (const auto& [leaf, regs] :
         std::vector<std::pair<uint32_t, std::vector<int>>>{{1, {2, 3}},
                                                            {6, {0, 1, 2, 3}},
                                                            {7, {1, 2, 3}},
                                                            {0x40000001, {0}},
                                                            {0x80000001, {2, 3}},
                                                            {0x80000007, {0, 1, 2, 3}},
                                                            {0x80000008, {1, 3}}}) {
      const CpuidRegs answer = policy.Query(leaf, 0, 0);
      for (int reg : regs) {
        for (int bit = 0; bit < 32; ++bit) {
          if (answer[static_cast<CpuidReg>(reg)] >> bit & 1) {
            INFO("leaf " << leaf << " reg " << reg << " bit " << bit);
            REQUIRE(allowed.contains({leaf, 0, reg, bit}));
          }
        }
      }
    }
  }
}

TEST_CASE("The feature table is sorted and names each place and each name once") {
  const auto features = vmm::CpuidFeatures();
  std::set<std::string_view> names;
  for (size_t i = 0; i < features.size(); ++i) {
    REQUIRE(names.insert(features[i].name).second);
    if (i == 0) continue;
    const auto place = [](const vmm::CpuidFeature& f) {
      return std::tuple(f.leaf, f.subleaf, f.reg, f.bit);
    };
    REQUIRE(place(features[i - 1]) < place(features[i]));
  }
}

TEST_CASE("What the host lacks is not offered; what is modelled is offered on any host") {
  Host host = Intel();
  host.leaves[{1, 0}].ecx = 0;
  host.leaves[{6, 0}] = host.leaves[{0x80000007, 0}] = {};
  const CpuidPolicy policy = Build(host);
  for (const char* name :
       {"pni", "ssse3", "cx16", "sse4_1", "sse4_2", "movbe", "popcnt", "xsave"}) {
    REQUIRE_FALSE(policy.Has(name));
  }
  for (const char* name : {"apic", "x2apic", "tsc_deadline_timer", "hypervisor", "arat",
                           "invariant_tsc", "kvmclock", "kvmclock_stable"}) {
    REQUIRE(policy.Has(name));
  }
  REQUIRE(policy.xcr0_mask() == 0);
  REQUIRE(policy.Query(0xd, 0, 0) == CpuidRegs{});
}

TEST_CASE("Vendor, model and name are the host's") {
  const CpuidPolicy intel = Build(Intel()), amd = Build(Amd());
  REQUIRE(intel.Query(0, 0, 0).ebx == 0x756e6547);
  REQUIRE(amd.Query(0, 0, 0).ebx == 0x68747541);
  REQUIRE(amd.Query(0x80000000, 0, 0).edx == 0x69746e65);
  REQUIRE(intel.signature() == 0x000806f8);
  REQUIRE(amd.Query(0x80000001, 0, 0).eax == 0x00b00f21);
  REQUIRE(intel.Query(0x80000002, 0, 0).eax == 0x65746e49);
}

TEST_CASE("Each CPU sees its own APIC id in leaves 1 and 0xb") {
  const CpuidPolicy policy = Build(Intel(), 4);
  REQUIRE(policy.Query(1, 0, 3).ebx >> 24 == 3);
  REQUIRE(policy.Query(0xb, 0, 3).edx == 3);
  REQUIRE(policy.Query(0xb, 1, 2).edx == 2);
  for (const CpuidEntry& entry : policy.EntriesFor(2)) {
    REQUIRE(entry.regs == policy.Query(entry.leaf, entry.subleaf, 2));
  }
}

TEST_CASE("Leaf 0xb shows one socket of n single-threaded cores ([SDM 2A] CPUID)") {
  for (const auto& [cpus, bits] :
       std::vector<std::pair<unsigned, unsigned>>{{1, 0}, {2, 1}, {3, 2}, {4, 2}, {5, 3}, {8, 3}}) {
    const CpuidPolicy policy = Build(Intel(), cpus);
    REQUIRE(policy.Query(0xb, 0, 0) == CpuidRegs{0, 1, 0x100, 0});
    REQUIRE(policy.Query(0xb, 1, 0) == CpuidRegs{bits, cpus, 0x201, 0});
    REQUIRE(policy.Query(0xb, 2, 1) == CpuidRegs{0, 0, 2, 1});
    REQUIRE((policy.Query(1, 0, 0).ebx >> 16 & 0xff) == cpus);
    REQUIRE(policy.Has(1, 0, 3, 28) == (cpus > 1));
  }
}

TEST_CASE("AMD's core count stands in leaf 0x80000008, and no other topology leaf does") {
  const CpuidPolicy policy = Build(Amd(), 4);
  REQUIRE(policy.Query(0x80000008, 0, 0).ecx == (2u << 12 | 3));  // ApicIdCoreIdSize, NC
  REQUIRE(policy.Has(0x80000001, 0, 2, 1));                       // CmpLegacy
  REQUIRE(policy.Query(0x8000001e, 0, 0) == CpuidRegs{});
  REQUIRE(policy.Query(4, 0, 0) == CpuidRegs{});
  REQUIRE((policy.Query(0x80000001, 0, 0).edx & 0x0183f3ff) ==
          (policy.Query(1, 0, 0).edx & 0x0183f3ff));
}

TEST_CASE("Intel's cache leaf shares the last level among all cores and nothing else") {
  const CpuidPolicy policy = Build(Intel(), 4);
  for (uint32_t subleaf = 0; subleaf < 4; ++subleaf) {
    const uint32_t eax = policy.Query(4, subleaf, 0).eax;
    REQUIRE(eax >> 26 == 3);
    REQUIRE((eax >> 14 & 0xfff) == (subleaf == 3 ? 3 : 0));
    REQUIRE((eax & 0x3fff) == (Intel()(4, subleaf).eax & 0x3fff));
  }
  REQUIRE((policy.Query(4, 4, 0).eax & 0x1f) == 0);
  REQUIRE(policy.Query(2, 0, 0).eax == 0x00feff01);
}

TEST_CASE("Leaf 0x15 gives the TSC's frequency in numbers that 32-bit arithmetic bears") {
  for (uint64_t hz : {kTscHz, uint64_t{1'000'000'000}, uint64_t{2'445'404'000},
                      uint64_t{3'999'999'999}, uint64_t{1'995'379'000}, uint64_t{5'192'246'000}}) {
    const CpuidPolicy policy = CpuidPolicy::Build({.cpu_count = 1, .tsc_hz = hz}, Amd());
    const CpuidRegs regs = policy.Query(0x15, 0, 0);
    REQUIRE(regs.ecx == 1'000'000'000);
    REQUIRE(uint64_t{regs.ecx / 1000} * regs.ebx <= 0xffffffff);
    const double told = static_cast<double>(regs.ecx) * regs.ebx / regs.eax;
    REQUIRE(std::abs(told / static_cast<double>(hz) - 1) < 1e-6);
    REQUIRE(policy.Query(0x16, 0, 0).eax == (hz + 500'000) / 1'000'000);
    REQUIRE(policy.Query(0x40000010, 0, 0) ==
            CpuidRegs{static_cast<uint32_t>((hz + 500) / 1000), 1'000'000, 0, 0});
  }
}

TEST_CASE("The KVM leaves offer kvmclock and nothing that needs the kernel's help") {
  const CpuidPolicy policy = Build(Intel());
  const CpuidRegs base = policy.Query(0x40000000, 0, 0);
  char signature[13] = {};
  std::memcpy(signature, &base.ebx, 4);
  std::memcpy(signature + 4, &base.ecx, 4);
  std::memcpy(signature + 8, &base.edx, 4);
  REQUIRE(std::string(signature) == "KVMKVMKVM");
  REQUIRE(base.eax == 0x40000010);
  REQUIRE(policy.Query(0x40000001, 0, 0) == CpuidRegs{0x0100000b, 0, 0, 0});
}

TEST_CASE("OSXSAVE and APIC follow the control registers ([SDM 2A] CPUID)") {
  const CpuidPolicy policy = Build(Amd());
  CpuidPolicy::Dynamic dynamic;
  REQUIRE((policy.Query(1, 0, 0, dynamic).ecx >> 27 & 1) == 0);
  REQUIRE((policy.Query(1, 0, 0, dynamic).edx >> 9 & 1) == 1);
  dynamic = {.cr4_osxsave = true, .apic_enabled = false, .xcr0 = 3};
  REQUIRE((policy.Query(1, 0, 0, dynamic).ecx >> 27 & 1) == 1);
  REQUIRE((policy.Query(1, 0, 0, dynamic).edx >> 9 & 1) == 0);
  REQUIRE((policy.Query(0x80000001, 0, 0, dynamic).edx >> 9 & 1) == 0);
  REQUIRE(policy.Query(0xd, 0, 0, dynamic) == CpuidRegs{7, 576, 832, 0});
  dynamic.xcr0 = 7;
  REQUIRE(policy.Query(0xd, 0, 0, dynamic) == CpuidRegs{7, 832, 832, 0});
  REQUIRE(policy.Query(0xd, 1, 0, dynamic) == CpuidRegs{0xf, 832, 0, 0});
  REQUIRE(policy.xcr0_mask() == 7);
}

TEST_CASE("A leaf beyond the last is zero on AMD and the last basic leaf on Intel") {
  const CpuidPolicy intel = Build(Intel()), amd = Build(Amd());
  for (uint32_t leaf : {0x17u, 0x3fffffffu, 0x40000011u, 0x80000009u, 0xffffffffu}) {
    REQUIRE(amd.Query(leaf, 0, 0) == CpuidRegs{});
    REQUIRE(intel.Query(leaf, 0, 0) == intel.Query(0x16, 0, 0));
  }
  REQUIRE(intel.Query(5, 0, 0) == CpuidRegs{});  // in range, no MONITOR
}

TEST_CASE("Restrict takes away what the engine lacks, with what hangs on it, and names it") {
  CpuidPolicy policy = Build(Amd());
  std::vector<CpuidEntry> engine = policy.entries();
  for (CpuidEntry& entry : engine) {
    if (entry.leaf == 1) {
      entry.regs.ecx &= ~(1u << 26 | 1u << 13 | 1u << 24 | 1u << 31);  // as KVM's list
      entry.regs.edx &= ~(1u << 13);
    }
    if (entry.leaf == 0x80000008) entry.regs.eax = 0x302b;
  }
  std::erase_if(engine, [](const CpuidEntry& e) { return e.leaf == 0x80000007; });
  const std::vector<std::string_view> removed = policy.Restrict(engine);
  REQUIRE(removed == std::vector<std::string_view>{"cx16", "xsave", "pge", "invariant_tsc",
                                                   "xsaveopt", "xsavec", "xgetbv1", "xsaves", "avx",
                                                   "avx2", "fma", "f16c", "vaes", "vpclmulqdq"});
  REQUIRE_FALSE(policy.Has("cx16"));
  REQUIRE_FALSE(policy.Has("invariant_tsc"));
  REQUIRE(policy.Has("tsc_deadline_timer"));
  REQUIRE(policy.Has("hypervisor"));
  REQUIRE(policy.xcr0_mask() == 0);
  REQUIRE((policy.Query(0x80000001, 0, 0).edx >> 13 & 1) == 0);
  REQUIRE(policy.physical_address_bits() == 43);
  REQUIRE(policy.Restrict(engine).empty());
}

TEST_CASE("An engine's promises about speculation stand where the vendor keeps them") {
  const CpuidPolicy intel = Build(Intel()), amd = Build(Amd());
  // RDCL_NO, IBRS_ALL, SSB_NO, MDS_NO, BHI_NO, ITS_NO. [SDM 4] table 2-2
  constexpr uint64_t kSome = 1 | 1 << 1 | 1 << 4 | 1 << 5 | 1 << 20 | uint64_t{1} << 62;
  CHECK((intel.arch_capabilities() & kSome) == kSome);
  CHECK((intel.arch_capabilities() & (1 << 2 | 1 << 7)) == 0);  // RSBA, TSX_CTRL are no promises
  CHECK(intel.Has(7, 0, 3, 26));
  CHECK(intel.Has(7, 0, 3, 29));
  CHECK_FALSE(intel.Has("amd_ibpb"));
  CHECK_FALSE(intel.Has("autoibrs"));
  // [APM 3] E.4.7, E.4.16
  CHECK(amd.arch_capabilities() == 0);
  CHECK_FALSE(amd.Has("arch_capabilities"));
  CHECK(amd.Has(0x80000008, 0, 1, 12));
  CHECK(amd.Query(0x80000021, 0, 0).eax == (1u << 8 | 1u << 29));
  CHECK(amd.Query(0x80000000, 0, 0).eax == 0x80000021);
  // What no leaf of CPUID is is shown to nobody.
  CHECK(intel.Query(vmm::kArchCapabilitiesLeaf, 0, 0) == intel.Query(0x1000, 0, 0));
  for (const CpuidEntry& entry : intel.EntriesFor(0))
    CHECK(entry.leaf != vmm::kArchCapabilitiesLeaf);
}

TEST_CASE("Promises about speculation go with mitigations = host, and where an engine lacks them") {
  for (const Host& host : {Intel(), Amd()}) {
    const CpuidOptions options{.tsc_hz = kTscHz, .mitigations = vmm::Mitigations::kHost};
    const CpuidPolicy none = CpuidPolicy::Build(options, host);
    for (const vmm::CpuidFeature& feature : vmm::CpuidFeatures()) {
      INFO(feature.name);
      if (feature.rule == vmm::FeatureRule::kEngine) CHECK_FALSE(none.Has(feature.name));
    }
  }
  // A KVM of a host that has some of it itself.
  CpuidPolicy policy = Build(Intel());
  std::vector<CpuidEntry> supported = policy.entries();
  for (CpuidEntry& entry : supported) {
    if (entry.leaf == vmm::kArchCapabilitiesLeaf) entry.regs = {.eax = 1 | 1 << 5};
  }
  const auto removed = policy.Restrict(supported);
  CHECK(policy.arch_capabilities() == (1 | 1 << 5));
  CHECK(std::ranges::count(removed, "ibrs_all") == 1);
  CHECK(std::ranges::count(removed, "rdcl_no") == 0);
  // Without the register nothing of it is left.
  std::erase_if(supported,
                [](const CpuidEntry& entry) { return entry.leaf == vmm::kArchCapabilitiesLeaf; });
  policy.Restrict(supported);
  CHECK(policy.arch_capabilities() == 0);
}

TEST_CASE("Restrict by an engine that has everything changes nothing") {
  CpuidPolicy policy = Build(Intel(), 2);
  const std::vector<CpuidEntry> before = policy.entries();
  REQUIRE(policy.Restrict(before).empty());
  REQUIRE(std::equal(before.begin(), before.end(), policy.entries().begin(), policy.entries().end(),
                     [](const CpuidEntry& a, const CpuidEntry& b) {
                       return a.leaf == b.leaf && a.subleaf == b.subleaf && a.regs == b.regs;
                     }));
}

TEST_CASE("On this host the policy offers a long-mode processor with 48-bit linear addresses") {
  const CpuidPolicy policy = CpuidPolicy::Build({.cpu_count = 2, .tsc_hz = kTscHz});
  for (const char* name : {"fpu", "tsc", "msr", "pae", "cx8", "apic", "pge", "cmov", "pat", "fxsr",
                           "sse", "sse2", "syscall", "nx", "lm", "lahf_lm"}) {
    INFO(name);
    REQUIRE(policy.Has(name));
  }
  REQUIRE(policy.physical_address_bits() == (vmm::HostCpuid(0x80000008, 0).eax & 0xff));
  REQUIRE((policy.Query(0x80000008, 0, 0).eax >> 8 & 0xff) == 48);
}

}  // namespace
