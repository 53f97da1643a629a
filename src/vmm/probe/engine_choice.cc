#include "vmm/probe/engine_choice.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace vmm {
namespace {

std::string WithRemedy(const ProbeResult& result) {
  if (result.remedy.empty()) return result.reason;
  return fmt::format("{} (to change that: {})", result.reason, result.remedy);
}

// A processor that can't be had in full is refused: the guest would miss what it was promised.
Result<void> CheckCpu(const CpuidPolicy& cpuid, const CpuidOptions& options,
                      std::string_view where) {
  const std::vector<std::string_view> missing = cpuid.Missing();
  if (missing.empty()) return {};
  std::string without = FormatCpuChoice(options.cpu);
  for (const std::string_view name : missing) without += fmt::format(",-{}", name);
  return Fail(ExitCode::kEngineUnavailable,
              fmt::format("cpu = \"{}\": {} has no {}; take a lesser model, or write \"{}\"",
                          FormatCpuChoice(options.cpu), where, fmt::join(missing, ", "), without));
}

using Factory = std::function<Result<std::unique_ptr<Accelerator>>()>;

Result<EngineChoice> Software(const Factory& factory, std::string_view name,
                              const CpuidOptions& options, std::string why) {
  if (!factory)
    return Fail(ExitCode::kEngineUnavailable,
                fmt::format("the engine \"{}\" is not in this build of vmm", name));
  auto made = factory();
  if (!made) return tl::unexpected(made.error());
  EngineChoice choice;
  choice.cpuid = CpuidPolicy::Build(options);
  if (auto good = CheckCpu(choice.cpuid, options, "this host"); !good)
    return tl::unexpected(good.error());
  choice.accelerator = std::move(*made);
  choice.reason = fmt::format("engine: {}: {}", choice.accelerator->name(), why);
  return choice;
}

EngineChoice UseKvm(ProbedKvm probed) {
  EngineChoice choice;
  choice.accelerator = std::move(probed.accelerator);
  choice.cpuid = std::move(probed.cpuid);
  return choice;
}

Result<EngineChoice> Auto(const CpuidOptions& options, EngineSources& sources) {
  ProbedKvm probed = ProbeKvm(sources.kvm, options);
  ProbeResult result = probed.result;
  const bool cpu_good = CheckCpu(probed.cpuid, options, "KVM on this host").has_value();
  if (result.verdict == KvmVerdict::kGood && !cpu_good)
    result.reason = fmt::format("KVM has no {}, which cpu = \"{}\" asks for",
                                fmt::join(probed.cpuid.Missing(), ", "), options.cpu.model);
  if (result.verdict == KvmVerdict::kGood && cpu_good) {
    EngineChoice choice = UseKvm(std::move(probed));
    choice.reason = fmt::format("engine: kvm: {}", WithRemedy(result));
    choice.probe = std::move(result);
    return choice;
  }
  Discard(std::move(probed.accelerator));
  const bool translator = static_cast<bool>(sources.bt);
  result.engine = translator ? kFallbackEngine : "interpreter";
  auto choice = Software(translator ? sources.bt : sources.interpreter, result.engine, options,
                         WithRemedy(result));
  if (choice) choice->probe = std::move(result);
  return choice;
}

Result<EngineChoice> RequiredKvm(const CpuidOptions& options, EngineSources& sources) {
  ProbedKvm probed = ProbeKvm(sources.kvm, options);
  ProbeResult result = probed.result;
  if (probed.accelerator == nullptr)
    return tl::unexpected(std::move(*probed.refusal).WithContext("accel = \"kvm\""));
  if (auto good = CheckCpu(probed.cpuid, options, "KVM on this host"); !good) {
    Discard(std::move(probed.accelerator));
    return tl::unexpected(good.error());
  }
  result.engine = "kvm";
  EngineChoice choice = UseKvm(std::move(probed));
  choice.reason = "engine: kvm: as asked for";
  if (result.verdict != KvmVerdict::kGood)
    choice.warning = fmt::format("accel = \"kvm\": {}; used as it is", result.reason);
  choice.probe = std::move(result);
  return choice;
}

}  // namespace

Result<EngineChoice> ChooseEngine(AccelChoice choice, const CpuidOptions& options,
                                  EngineSources& sources) {
  switch (choice) {
    case AccelChoice::kAuto:
      return Auto(options, sources);
    case AccelChoice::kKvm:
      return RequiredKvm(options, sources);
    case AccelChoice::kBt:
      return Software(sources.bt, "bt", options, "as asked for");
    case AccelChoice::kInterpreter:
      break;
  }
  return Software(sources.interpreter, "interpreter", options, "as asked for");
}

}  // namespace vmm
