// Which engine runs the machine, and why: the meaning of `accel`.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "kvm/kvm_api.h"
#include "vmm/config/config.h"
#include "vmm/core/accel/accelerator.h"
#include "vmm/probe/probe.h"

namespace vmm {

// Where engines come from. An empty factory: that engine does not exist in this build.
struct EngineSources {
  kvm::KvmApi& kvm;
  std::function<Result<std::unique_ptr<Accelerator>>()> interpreter;
  std::function<Result<std::unique_ptr<Accelerator>>()> bt;
};

struct EngineChoice {
  std::unique_ptr<Accelerator> accelerator;
  CpuidPolicy cpuid;    // for VmParts::cpuid: what this engine can give
  std::string reason;   // one line for the user: "engine: kvm (...)", "engine: interpreter: ..."
  std::string warning;  // non-empty: accel = "kvm" on a KVM that is slow or lacks instructions
  std::optional<ProbeResult> probe;  // when KVM was looked at
};

// "auto" measures KVM and takes it only when it is good. "kvm" is required: kEngineUnavailable with
// the reason when no VM can be created; a slow or incomplete one is used with a warning. "bt" and
// "interpreter" don't look at KVM. `options`: cpu_count and tsc_hz of the machine.
Result<EngineChoice> ChooseEngine(AccelChoice choice, const CpuidOptions& options,
                                  EngineSources& sources);

}  // namespace vmm
