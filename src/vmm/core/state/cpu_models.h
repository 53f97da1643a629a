// The processors that a guest can be given by name, and the user's choice of one.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/core/base/result.h"

namespace vmm {

// A named processor. It shows exactly its features, whatever the host has beyond them: the rows of
// cpuid_features.cc by name, plus, for a 64-bit model, what vmm itself models on any host
// (FeatureRule::kAlways).
struct CpuModel {
  std::string_view name;
  std::string_view help;  // in a few words
  std::span<const std::string_view> features;
  // Before the first 64-bit processors: leaf 1 is the last, and vendor and signature (CPUID.1:EAX)
  // are the model's own. Else they are the host's, for guests choose their workarounds by them.
  bool legacy = false;
  uint32_t signature = 0;
};

// Without "host", which has no features of its own.
std::span<const CpuModel> CpuModels();
const CpuModel* FindCpuModel(std::string_view name);  // null: "host", or no such model

// `cpu` of the config: a model, and features taken away from it or added to it.
struct CpuChoice {
  std::string model = "host";
  std::vector<std::string> remove, add;
  friend bool operator==(const CpuChoice&, const CpuChoice&) = default;
};

// What is wrong with a choice: the word, and the words that may stand there.
struct CpuChoiceError {
  std::string word;
  bool is_feature = false;  // else a model
};

// "host", "x86-64-v3,-avx2", "x86-64-v2,+aes". Feature names are those of /proc/cpuinfo.
tl::expected<CpuChoice, CpuChoiceError> ParseCpuChoice(std::string_view text);
std::string FormatCpuChoice(const CpuChoice& choice);

}  // namespace vmm
