// `vmm probe`: is the host's KVM there, and is it any good? Measured by a tiny guest, not assumed.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kvm/kvm_accelerator.h"
#include "kvm/kvm_api.h"
#include "vmm/core/base/result.h"
#include "vmm/core/state/cpuid_policy.h"

namespace vmm {

enum class KvmVerdict {
  kGood,
  kMissing,   // no /dev/kvm, or nothing behind it
  kNoAccess,  // EACCES, EPERM
  kBusy,      // another hypervisor holds VMX or SVM
  kUnusable,  // too old, lacks a capability, or refuses for another reason
  kSlow,      // guest code runs below kSlowRatio of native speed
  kLacks,     // instructions or events that a guest kernel needs fail
};

struct ProbeResult {
  // Guest loop iterations per second of thread CPU time, relative to the same loop run natively.
  static constexpr double kSlowRatio = 0.1;

  std::string engine;  // what "auto" takes: "kvm" or the name of the fall-back
  std::string reason;  // one line, without a trailing period
  std::string remedy;  // what would change the choice, a command if possible; empty: nothing known
  double cpu_ms = 0;   // thread CPU time the probe took
  double wall_ms = 0;  // until the decision
  KvmVerdict verdict = KvmVerdict::kMissing;
  struct {
    bool present = false;  // a VM could be created
    bool nested_paging = false;
    double speed_ratio = 0;            // 0 = not measured
    std::vector<std::string> missing;  // "cmpxchg16b", "int3", ...: Name(probe::Stage)
  } kvm;
};

// The name of what "auto" falls back to until the translator exists.
inline constexpr char kFallbackEngine[] = "bt";

// The whole probe for `vmm probe`: opens KVM, makes a VM for it alone and gives it up again. At
// most 30 ms to the answer on a KVM that is missing, slow or broken.
ProbeResult RunProbe(kvm::KvmApi& api);

// The same, and the engine that was measured: its prepared VM is as new and becomes the machine's.
// The engine is there whenever a VM could be made, good or not.
struct ProbedKvm {
  ProbeResult result;
  std::unique_ptr<kvm::KvmAccelerator> accelerator;
  CpuidPolicy cpuid;             // restricted to what this KVM gives
  std::optional<Error> refusal;  // why there is no engine
};
ProbedKvm ProbeKvm(kvm::KvmApi& api, const CpuidOptions& options);

// Gives a measured engine up, in the background.
void Discard(std::unique_ptr<kvm::KvmAccelerator> accelerator);

// {"engine", "reason", "remedy", "cpu_ms", "wall_ms", "kvm": {"present", "nested_paging",
// "speed_ratio", "missing"}}, one object, indented, with a final newline.
std::string ToJson(const ProbeResult& result);
// For people: one "name: value" a line, with a final newline.
std::string ToText(const ProbeResult& result);

}  // namespace vmm
