#include "vmm/probe/probe.h"

#include <fmt/format.h>

#include "kvm/background_close.h"
#include "vmm/probe/measure.h"

namespace vmm {
namespace {

// To the decision on a bad KVM: 30 ms on an idle host, of which making the VM may take 5.
constexpr probe::Allowance kBudget{std::chrono::milliseconds(20), std::chrono::milliseconds(200)};

KvmVerdict Verdict(kvm::Refusal::Kind kind) {
  switch (kind) {
    case kvm::Refusal::Kind::kMissing:
      return KvmVerdict::kMissing;
    case kvm::Refusal::Kind::kNoAccess:
      return KvmVerdict::kNoAccess;
    case kvm::Refusal::Kind::kBusy:
      return KvmVerdict::kBusy;
    case kvm::Refusal::Kind::kUnusable:
      break;
  }
  return KvmVerdict::kUnusable;
}

std::string Speed(double ratio) {
  if (ratio >= ProbeResult::kSlowRatio) return fmt::format("{:.0f} % of native speed", ratio * 100);
  return fmt::format("1/{:.0f} of native speed", 1 / ratio);
}

constexpr char kForce[] = "--accel kvm takes it all the same";

// What the measurement means. `facts` tell of nested paging and the module's name.
void Judge(const probe::Measurement& measured, const kvm::HostFacts& facts, ProbeResult& result) {
  const std::string module = facts.backend.empty() ? "" : fmt::format(" ({})", facts.backend);
  result.kvm.nested_paging = facts.nested_paging;
  result.kvm.speed_ratio = measured.speed_ratio;
  result.kvm.missing = measured.missing;
  const bool slow = measured.speed_ratio < ProbeResult::kSlowRatio;
  if (slow && measured.speed_ratio > 0) {
    result.verdict = KvmVerdict::kSlow;
    result.reason = fmt::format("KVM is slow here{}: guest code runs at {}", module,
                                Speed(measured.speed_ratio));
    if (!measured.missing.empty())
      result.reason += fmt::format(", and it fails at {}", fmt::join(measured.missing, ", "));
    result.remedy = kForce;
  } else if (!measured.missing.empty()) {
    result.verdict = KvmVerdict::kLacks;
    result.reason = fmt::format("KVM fails here{} at what guests need: {} ({})", module,
                                fmt::join(measured.missing, ", "), measured.failure);
    result.remedy = kForce;
  } else if (measured.out_of_time) {
    result.verdict = KvmVerdict::kSlow;
    result.reason = fmt::format("KVM is slow here{}: the probe ran out of time", module);
    result.remedy = kForce;
  } else {
    result.verdict = KvmVerdict::kGood;
    result.engine = "kvm";
    result.reason = fmt::format("KVM runs guest code at {}", Speed(measured.speed_ratio));
    if (facts.nested_paging) return;
    result.reason += ", but without nested paging (EPT or NPT): page-table work is slow";
    if (facts.backend == "kvm_intel")
      result.remedy = "sudo modprobe -r kvm_intel && sudo modprobe kvm_intel ept=1";
    if (facts.backend == "kvm_amd")
      result.remedy = "sudo modprobe -r kvm_amd && sudo modprobe kvm_amd npt=1";
  }
}

void Refuse(const kvm::Refusal& refusal, const kvm::HostFacts& facts, ProbedKvm& probed) {
  const kvm::Explanation why = kvm::Explain(refusal, facts);
  probed.result.verdict = Verdict(refusal.kind());
  probed.result.reason = why.reason;
  probed.result.remedy = why.remedy;
  probed.refusal = kvm::ToError(refusal, facts);
}

void ProbeInto(kvm::KvmApi& api, const CpuidOptions& options, ProbedKvm& probed) {
  auto accelerator = kvm::KvmAccelerator::Create(api);
  if (!accelerator) return Refuse(accelerator.error(), api.Facts(), probed);
  probed.cpuid = CpuidPolicy::Build(options);
  (*accelerator)->Restrict(probed.cpuid);
  // The guest that measures needs long mode; for an older processor the VM is made anew afterwards.
  CpuidPolicy measured_as = probed.cpuid;
  if (!measured_as.Has("lm")) {
    CpuidOptions wide = options;
    wide.cpu = {};
    measured_as = CpuidPolicy::Build(wide);
    (*accelerator)->Restrict(measured_as);
  }
  auto prepared = (*accelerator)->Prepare(measured_as);
  if (!prepared) return Refuse(prepared.error(), api.Facts(), probed);

  probed.accelerator = std::move(*accelerator);
  probed.result.kvm.present = true;
  auto measured = probe::Measure(**prepared, kBudget);
  if (measured) return Judge(*measured, api.Facts(), probed.result);
  probed.result.verdict = KvmVerdict::kUnusable;
  probed.result.reason = measured.error().message;
  // A VM whose state could not be put back is nobody's machine: the next one is made anew.
  probed.accelerator->DropPrepared();
}

}  // namespace

ProbedKvm ProbeKvm(kvm::KvmApi& api, const CpuidOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  const double cpu_start = probe::ThreadCpuSeconds();
  ProbedKvm probed;
  probed.result.engine = kFallbackEngine;
  ProbeInto(api, options, probed);
  using Milliseconds = std::chrono::duration<double, std::milli>;
  probed.result.cpu_ms = (probe::ThreadCpuSeconds() - cpu_start) * 1e3;
  probed.result.wall_ms = Milliseconds(std::chrono::steady_clock::now() - start).count();
  return probed;
}

void Discard(std::unique_ptr<kvm::KvmAccelerator> accelerator) {
  if (accelerator != nullptr) kvm::DestroyInBackground(std::move(accelerator));
}

ProbeResult RunProbe(kvm::KvmApi& api) {
  CpuidOptions options;
  options.cpu_count = 1;
  ProbedKvm probed = ProbeKvm(api, options);
  Discard(std::move(probed.accelerator));
  return probed.result;
}

}  // namespace vmm
