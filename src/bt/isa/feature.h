// What CPUID must advertise for an instruction to exist. Without it the processor raises #UD.
#pragma once

#include <cstdint>
#include <string_view>

namespace bt {

// X(name, cpuid, native): `cpuid` is the name in vmm::CpuidFeatures(); `native`: the engine runs
// the host's own instruction (native_thunk.h), so that the host must have it as well.
// clang-format off
#define VMM_BT_FEATURES(X)            \
  X(kFpu, "fpu", false)               \
  X(kTsc, "tsc", false)               \
  X(kMsr, "msr", false)               \
  X(kCx8, "cx8", false)               \
  X(kSep, "sep", false)               \
  X(kCmov, "cmov", false)             \
  X(kClflush, "clflush", false)       \
  X(kMmx, "mmx", false)               \
  X(kFxsr, "fxsr", false)             \
  X(kSse, "sse", false)               \
  X(kSse2, "sse2", false)             \
  X(kSse3, "pni", true)               \
  X(kPclmulqdq, "pclmulqdq", true)    \
  X(kSsse3, "ssse3", true)            \
  X(kFma, "fma", true)                \
  X(kCx16, "cx16", false)             \
  X(kSse41, "sse4_1", true)           \
  X(kSse42, "sse4_2", true)           \
  X(kMovbe, "movbe", false)           \
  X(kPopcnt, "popcnt", false)         \
  X(kAes, "aes", true)                \
  X(kXsave, "xsave", false)           \
  X(kAvx, "avx", true)                \
  X(kF16c, "f16c", true)              \
  X(kRdrand, "rdrand", false)         \
  X(kFsgsbase, "fsgsbase", false)     \
  X(kBmi1, "bmi1", false)             \
  X(kAvx2, "avx2", true)              \
  X(kBmi2, "bmi2", false)             \
  X(kInvpcid, "invpcid", false)       \
  X(kRdseed, "rdseed", false)         \
  X(kAdx, "adx", false)               \
  X(kSmap, "smap", false)             \
  X(kClflushopt, "clflushopt", false) \
  X(kClwb, "clwb", false)             \
  X(kSha, "sha_ni", true)             \
  X(kGfni, "gfni", true)              \
  X(kVaes, "vaes", true)              \
  X(kVpclmulqdq, "vpclmulqdq", true)  \
  X(kRdpid, "rdpid", false)           \
  X(kXsaveopt, "xsaveopt", false)     \
  X(kXsavec, "xsavec", false)         \
  X(kXsaves, "xsaves", false)         \
  X(kAbm, "abm", false)               \
  X(kSyscall, "syscall", false)       \
  X(kRdtscp, "rdtscp", false)
// clang-format on

enum class Feature : uint8_t {
  kAlways,
#define X(name, cpuid, native) name,
  VMM_BT_FEATURES(X)
#undef X
      kCount
};
static_assert(static_cast<unsigned>(Feature::kCount) <= 64);

struct FeatureInfo {
  std::string_view cpuid;
  bool native;
};
inline constexpr FeatureInfo kFeatureInfo[] = {{"", false},
#define X(name, cpuid, native) {cpuid, native},
                                               VMM_BT_FEATURES(X)
#undef X
};

}  // namespace bt
