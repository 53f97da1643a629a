#include "vmm/core/state/cpu_models.h"

#include <algorithm>

#include "vmm/core/state/cpuid_features.h"

namespace vmm {
namespace {

// [AP-485] table 3-6: a DX4, the i486 that has CPUID.
constexpr std::string_view kI486[] = {"fpu", "vme"};

// A P54C. [AP-485] table 3-6
constexpr std::string_view kPentium[] = {"fpu", "vme", "de",  "pse", "tsc",
                                         "msr", "mce", "cx8", "apic"};

// The levels of the x86-64 psABI, with what every such processor has for its kernel.
#define VMM_X86_64_V1                                                                          \
  "fpu", "vme", "de", "pse", "tsc", "msr", "pae", "mce", "cx8", "apic", "sep", "mtrr", "pge",  \
      "mca", "cmov", "pat", "pse36", "clflush", "mmx", "fxsr", "sse", "sse2", "syscall", "nx", \
      "lm"
#define VMM_X86_64_V2 VMM_X86_64_V1, "pni", "ssse3", "cx16", "sse4_1", "sse4_2", "popcnt", "lahf_lm"
#define VMM_X86_64_V3 \
  VMM_X86_64_V2, "fma", "movbe", "xsave", "avx", "f16c", "bmi1", "avx2", "bmi2", "abm"

constexpr std::string_view kV1[] = {VMM_X86_64_V1};
constexpr std::string_view kV2[] = {VMM_X86_64_V2};
constexpr std::string_view kV3[] = {VMM_X86_64_V3};

constexpr CpuModel kModels[] = {
    {"x86-64", "SSE2: every 64-bit processor", kV1},
    {"x86-64-v2", "SSE4.2 and POPCNT: since 2009", kV2},
    {"x86-64-v3", "AVX2, BMI and FMA: since 2013", kV3},
    {"pentium", "32-bit, with TSC and 4 MiB pages", kPentium, true, 0x52c},
    {"i486", "32-bit, with little but an FPU", kI486, true, 0x480},
};

bool IsFeature(std::string_view name) {
  return std::ranges::any_of(CpuidFeatures(),
                             [name](const CpuidFeature& feature) { return feature.name == name; });
}

}  // namespace

std::span<const CpuModel> CpuModels() {
  return kModels;
}

const CpuModel* FindCpuModel(std::string_view name) {
  const auto found =
      std::ranges::find_if(kModels, [name](const CpuModel& model) { return model.name == name; });
  return found == std::end(kModels) ? nullptr : found;
}

tl::expected<CpuChoice, CpuChoiceError> ParseCpuChoice(std::string_view text) {
  const auto next = [&text] {
    const size_t comma = text.find(',');
    const std::string_view word = text.substr(0, comma);
    text = comma == std::string_view::npos ? std::string_view() : text.substr(comma + 1);
    return word;
  };
  bool more = text.find(',') != std::string_view::npos;
  CpuChoice choice;
  choice.model = next();
  if (choice.model != "host" && !FindCpuModel(choice.model))
    return tl::unexpected(CpuChoiceError{choice.model, false});
  while (more) {
    more = text.find(',') != std::string_view::npos;
    const std::string_view word = next();
    const bool sign = !word.empty() && (word.front() == '-' || word.front() == '+');
    if (!sign || !IsFeature(word.substr(1)))
      return tl::unexpected(CpuChoiceError{std::string(word), true});
    (word.front() == '-' ? choice.remove : choice.add).emplace_back(word.substr(1));
  }
  return choice;
}

std::string FormatCpuChoice(const CpuChoice& choice) {
  std::string text = choice.model;
  for (const std::string& name : choice.remove) text += ",-" + name;
  for (const std::string& name : choice.add) text += ",+" + name;
  return text;
}

}  // namespace vmm
