#include <algorithm>
#include <catch2/catch.hpp>
#include <vector>

#include "bt/interp/cpu.h"
#include "bt/interp/feature_set.h"
#include "bt/isa/decoder.h"
#include "vmm/core/state/cpuid_features.h"

using namespace bt;

namespace {

Insn Decoded(std::vector<uint8_t> bytes) {
  Insn insn;
  REQUIRE(Decode(bytes, CodeSize::k64, insn) == DecodeStatus::kOk);
  return insn;
}

FeatureSet OfModel(const char* cpu) {
  return FeatureSet(vmm::CpuidPolicy::Build({.cpu = vmm::ParseCpuChoice(cpu).value()}));
}

}  // namespace

TEST_CASE("an instruction names the feature that CPUID must advertise for it") {
  CHECK(Decoded({0x90}).feature == Feature::kAlways);
  CHECK(Decoded({0x0f, 0x44, 0xc1}).feature == Feature::kCmov);
  CHECK(Decoded({0x0f, 0xc7, 0x0b}).feature == Feature::kCx8);
  CHECK(Decoded({0x48, 0x0f, 0xc7, 0x0b}).feature == Feature::kCx16);
  CHECK(Decoded({0xf3, 0x0f, 0xb8, 0xc1}).feature == Feature::kPopcnt);
  CHECK(Decoded({0xf3, 0x0f, 0xbd, 0xc1}).feature == Feature::kAbm);
  CHECK(Decoded({0x66, 0x0f, 0x38, 0xdc, 0xc1}).feature == Feature::kAes);
  CHECK(Decoded({0xc4, 0xe2, 0x70, 0xf2, 0xc2}).feature == Feature::kBmi1);  // ANDN
}

TEST_CASE("the width of a vector decides which feature it needs") {
  CHECK(Decoded({0xc5, 0xf1, 0xfe, 0xc2}).feature == Feature::kAvx);   // VPADDD XMM
  CHECK(Decoded({0xc5, 0xf5, 0xfe, 0xc2}).feature == Feature::kAvx2);  // VPADDD YMM
  CHECK(Decoded({0xc4, 0xe3, 0x71, 0x44, 0xc2, 0}).feature == Feature::kPclmulqdq);
  CHECK(Decoded({0xc4, 0xe3, 0x75, 0x44, 0xc2, 0}).feature == Feature::kVpclmulqdq);
}

TEST_CASE("VEX encodings of processors that are no PCs do not exist") {
  Insn insn;
  const std::vector<uint8_t> knights_corner_popcnt = {0xc4, 0x81, 0x7a, 0xb8, 0xe8};
  CHECK(Decode(knights_corner_popcnt, CodeSize::k64, insn) == DecodeStatus::kInvalid);
  const std::vector<uint8_t> ldtilecfg = {0xc4, 0xe2, 0x78, 0x49, 0x00};
  CHECK(Decode(ldtilecfg, CodeSize::k64, insn) == DecodeStatus::kInvalid);
}

TEST_CASE("a processor has the instructions and the bits of CR4 that it advertises") {
  const FeatureSet i486 = OfModel("i486");
  CHECK(i486.Has(Feature::kAlways));
  CHECK(i486.Has(Feature::kFpu));
  for (const Feature feature : {Feature::kTsc, Feature::kCmov, Feature::kMmx, Feature::kSse2,
                                Feature::kAvx, Feature::kSyscall}) {
    CHECK_FALSE(i486.Has(feature));
  }
  CHECK(i486.cr4_bits() == (cr4::VME | cr4::PVI));
  CHECK(OfModel("pentium").cr4_bits() ==
        (cr4::VME | cr4::PVI | cr4::TSD | cr4::DE | cr4::PSE | cr4::MCE));
  CHECK_FALSE(OfModel("x86-64").Has(Feature::kSse3));
  CHECK_FALSE(OfModel("host,-avx").Has(Feature::kAvx2));
}

TEST_CASE("what would run natively is not offered beyond what the host has") {
  // A policy from elsewhere, with everything.
  const auto everything = [](uint32_t leaf, uint32_t subleaf) -> vmm::CpuidRegs {
    if (leaf == 0) return {0x1f, 0x756e6547, 0x6c65746e, 0x49656e69};
    if (leaf == 0x80000000) return {0x80000008, 0, 0, 0};
    if (leaf == 0xd && subleaf == 2) return {256, 576, 0, 0};
    return {~0u, ~0u, ~0u, ~0u};
  };
  const vmm::CpuidPolicy host = vmm::CpuidPolicy::Build({});
  const FeatureSet set(vmm::CpuidPolicy::Build({}, everything));
  for (unsigned i = 1; i < static_cast<unsigned>(Feature::kCount); ++i) {
    if (!kFeatureInfo[i].native) continue;
    INFO(kFeatureInfo[i].cpuid);
    CHECK(set.Has(static_cast<Feature>(i)) == host.Has(kFeatureInfo[i].cpuid));
  }
  CHECK(set.Has(Feature::kBmi2));  // written out
}

TEST_CASE("every feature of an instruction is one that CPUID can advertise") {
  for (unsigned i = 1; i < static_cast<unsigned>(Feature::kCount); ++i) {
    INFO(kFeatureInfo[i].cpuid);
    CHECK(std::ranges::any_of(vmm::CpuidFeatures(), [i](const vmm::CpuidFeature& feature) {
      return feature.name == kFeatureInfo[i].cpuid;
    }));
  }
}
