#include "vmm/probe/engine_choice.h"

#include <fmt/format.h>

namespace vmm {
namespace {

std::string WithRemedy(const ProbeResult& result) {
  if (result.remedy.empty()) return result.reason;
  return fmt::format("{} (to change that: {})", result.reason, result.remedy);
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
  if (result.verdict == KvmVerdict::kGood) {
    EngineChoice choice = UseKvm(std::move(probed));
    choice.reason = fmt::format("engine: kvm: {}", WithRemedy(result));
    choice.probe = std::move(result);
    return choice;
  }
  Discard(std::move(probed.accelerator));
  const bool translator = static_cast<bool>(sources.bt);
  result.engine = translator ? "bt" : kFallbackEngine;
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
