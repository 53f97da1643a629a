#include "vmm/core/state/cpu_models.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <set>

#include "vmm/core/state/cpuid_features.h"
#include "vmm/core/state/cpuid_policy.h"

namespace {

using vmm::CpuChoice;
using vmm::CpuidFeature;
using vmm::CpuidPolicy;
using vmm::CpuidReg;
using vmm::CpuidRegs;
using vmm::ParseCpuChoice;

// A host that has every feature there is.
CpuidRegs Everything(uint32_t leaf, uint32_t subleaf) {
  if (leaf == 0) return {0x1f, 0x756e6547, 0x6c65746e, 0x49656e69};
  if (leaf == 0x80000000) return {0x80000008, 0, 0, 0};
  if (leaf == 0x80000008) return {0x3930, 0, 0, 0};
  if (leaf == 1) return {0x000806f8, ~0u, ~0u, ~0u};
  if (leaf == 0xd && subleaf == 2) return {256, 576, 0, 0};
  return {~0u, ~0u, ~0u, ~0u};
}

CpuidPolicy Build(std::string_view choice, const vmm::CpuidSource& host = Everything) {
  return CpuidPolicy::Build({.tsc_hz = 1'000'000'000, .cpu = ParseCpuChoice(choice).value()}, host);
}

std::set<std::string_view> Names(const CpuidPolicy& policy) {
  const auto names = policy.FeatureNames();
  return {names.begin(), names.end()};
}

}  // namespace

TEST_CASE("Each model names features that the table has, with all that they depend on") {
  for (const vmm::CpuModel& model : vmm::CpuModels()) {
    INFO(model.name);
    const CpuidPolicy policy = Build(model.name);
    CHECK(policy.Missing().empty());
    for (const std::string_view name : model.features) {
      INFO(name);
      CHECK(policy.Has(name));
    }
  }
}

TEST_CASE("A 64-bit model shows its features and what vmm models itself, and nothing else") {
  for (const std::string_view name : {"x86-64", "x86-64-v2", "x86-64-v3"}) {
    const vmm::CpuModel& model = *vmm::FindCpuModel(name);
    std::set<std::string_view> expected(model.features.begin(), model.features.end());
    for (const CpuidFeature& feature : vmm::CpuidFeatures()) {
      const bool intels = feature.leaf < 0x80000008;  // this host is
      if (feature.rule == vmm::FeatureRule::kAlways ||
          (feature.rule == vmm::FeatureRule::kEngine && intels)) {
        expected.insert(feature.name);
      }
    }
    CHECK(Names(Build(name)) == expected);
  }
}

TEST_CASE("A 32-bit model ends with leaf 1, is Intel's, and shows no hypervisor ([AP-485])") {
  const CpuidPolicy i486 = Build("i486");
  CHECK(Names(i486) == std::set<std::string_view>{"fpu", "vme"});
  CHECK(i486.Query(0, 0, 0) == CpuidRegs{1, 0x756e6547, 0x6c65746e, 0x49656e69});
  CHECK(i486.Query(1, 0, 0).eax == 0x480);
  CHECK(i486.Query(1, 0, 0).edx == 3);
  CHECK(i486.Query(0x80000000, 0, 0).eax < 0x80000000);  // what asks for more finds nothing
  CHECK(i486.Query(0x40000000, 0, 0).ebx != 0x4b4d564b);
  CHECK(i486.physical_address_bits() == 32);
  CHECK(i486.xcr0_mask() == 0);
  const CpuidPolicy pentium = Build("pentium");
  CHECK(pentium.Query(1, 0, 0).edx == 0x3bf);
  CHECK(pentium.Query(1, 0, 0).ecx == 0);
}

TEST_CASE("Features can be taken away, with what hangs on them, and added") {
  const CpuidPolicy without = Build("x86-64-v3,-avx");
  CHECK_FALSE(without.Has("avx"));
  CHECK_FALSE(without.Has("fma"));
  CHECK(without.Has("bmi2"));
  CHECK(without.xcr0_mask() == 3);
  CHECK(Build("x86-64-v2,+aes").Has("aes"));
  CHECK_FALSE(Build("host,-rdrand").Has("rdrand"));
  CHECK(Build("host,-rdrand").Has("rdseed"));
}

TEST_CASE("What the host lacks of a model is missing by name; of the host's own nothing ever is") {
  const auto old_host = [](uint32_t leaf, uint32_t subleaf) {
    CpuidRegs regs = Everything(leaf, subleaf);
    if (leaf == 7) regs.ebx &= ~(1u << 5 | 1u << 8);  // AVX2, BMI2
    return regs;
  };
  using Names = std::vector<std::string_view>;
  CHECK(Build("x86-64-v3", old_host).Missing() == Names{"avx2", "bmi2"});
  CHECK(Build("x86-64-v3,-avx2,-bmi2", old_host).Missing().empty());
  CHECK(Build("x86-64-v2", old_host).Missing().empty());
  CHECK(Build("host", old_host).Missing().empty());
  CHECK(Build("host,+avx2", old_host).Missing() == Names{"avx2"});
}

TEST_CASE("What an engine lacks of a model is missing, too") {
  CpuidPolicy policy = Build("x86-64-v2");
  std::vector<vmm::CpuidEntry> engine = policy.entries();
  for (vmm::CpuidEntry& entry : engine) {
    if (entry.leaf == 1) entry.regs.ecx &= ~(1u << 20);  // SSE4.2
  }
  policy.Restrict(engine);
  CHECK(policy.Missing() == std::vector<std::string_view>{"sse4_2"});
}

TEST_CASE("A choice is read and written alike; a wrong word is told") {
  for (const char* text : {"host", "x86-64-v3,-avx2", "host,-avx,-aes", "x86-64-v2,-lm,+aes"}) {
    CHECK(vmm::FormatCpuChoice(ParseCpuChoice(text).value()) == text);
  }
  CHECK(ParseCpuChoice("").error().word.empty());
  CHECK(ParseCpuChoice("x86-64-v4").error().word == "x86-64-v4");
  CHECK_FALSE(ParseCpuChoice("x86-64-v4").error().is_feature);
  CHECK(ParseCpuChoice("host,avx2").error().word == "avx2");
  CHECK(ParseCpuChoice("host,-avx9").error().word == "-avx9");
  CHECK(ParseCpuChoice("host,").error().is_feature);
  CHECK(ParseCpuChoice("host,-").error().is_feature);
}
