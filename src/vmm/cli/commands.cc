#include "vmm/cli/commands.h"

#include <fmt/format.h>

#include <cstdio>

#include "kvm/kvm_api.h"
#include "vmm/cli/output.h"
#include "vmm/config/config_keys.h"
#include "vmm/config/value_parsers.h"
#include "vmm/core/base/log.h"
#include "vmm/machine/machine.h"
#include "vmm/probe/probe.h"

namespace vmm {
namespace {

std::string Explain(const ConfigKey& key) {
  std::string text = fmt::format("{}: {}\n  it is {}\n", key.name, key.help, DescribeKind(key));
  if (key.kind == ValueKind::kInteger) {
    text += fmt::format("  range: {} to {}\n", key.min, key.max);
  } else if (key.kind == ValueKind::kSize) {
    text += fmt::format("  range: \"{}\" to \"{}\"\n", FormatSize(key.min), FormatSize(key.max));
  }
  const size_t dot = key.name.find('.');
  const std::string section =
      dot == std::string_view::npos ? "" : fmt::format("[{}] ", key.name.substr(0, dot));
  text += fmt::format("  default: {}\n  example: {}{} = {}\n  option: {}\n", key.default_text,
                      section, key.name.substr(dot + 1), key.example, key.option);
  if (key.kind == ValueKind::kDisks) text += "\n" + DiskKeysMarkdown();
  if (key.kind == ValueKind::kNets) text += "\n" + NetKeysMarkdown();
  if (key.kind == ValueKind::kShares) text += "\n" + ShareKeysMarkdown();
  if (key.kind == ValueKind::kPorts) text += "\n" + PortKeysMarkdown();
  return text;
}

}  // namespace

RunOutcome OutcomeOf(Error error) {
  RunOutcome outcome;
  outcome.code = error.code;
  outcome.reason = std::move(error.message);
  return outcome;
}

RunOutcome OutcomeOf(const Result<void>& result) {
  if (!result) return OutcomeOf(result.error());
  RunOutcome outcome;
  outcome.code = ExitCode::kSuccess;
  return outcome;
}

Result<Config> ConfigOf(const CommandLine& line) {
  return line.config.empty() ? ConfigFromOverrides(line.settings)
                             : LoadConfig(line.config, line.settings);
}

// Deletes what a suspended machine left; that there is nothing is no error.
Result<void> DiscardState(const Config& config) {
  std::error_code error;
  if (config.suspend_file.empty()) return {};
  std::filesystem::remove(config.suspend_file, error);
  if (!error) return {};
  return FailErrno(ExitCode::kIoError, fmt::format("can't delete {}", config.suspend_file.string()),
                   error.value());
}

// From here on what vmm says is kept.
Result<void> StartLog(const Config& config) {
  if (config.logs.empty()) return {};
  std::error_code error;
  std::filesystem::create_directories(config.logs, error);
  if (error) {
    return Fail(ExitCode::kCannotCreate,
                fmt::format("logs: can't make {} ({}); fix: name a directory that can be written",
                            config.logs.string(), error.message()));
  }
  return AddLogFile((config.logs / "vmm.log").string(), Config::kLogLimit)
      .map_error([](Error failed) {
        failed.message += "; fix: name a directory that can be written";
        return std::move(failed).WithContext("logs");
      });
}

RunOutcome RunCommand(const CommandLine& line) {
  Result<Config> config = ConfigOf(line);
  if (!config) return OutcomeOf(config.error());
  if (auto started = StartLog(*config); !started) return OutcomeOf(started.error());
  if (line.discard_state) {
    if (auto discarded = DiscardState(*config); !discarded) return OutcomeOf(discarded.error());
  }
  if (line.trace.any() && !config->deterministic) {
    return OutcomeOf({ExitCode::kUsage,
                      "--record, --replay and --state-hash are of deterministic runs; fix: add "
                      "--deterministic"});
  }
  if (line.lockstep && (!config->deterministic || config->accel != AccelChoice::kBt)) {
    return OutcomeOf({ExitCode::kUsage,
                      "--lockstep is of deterministic runs of the translator; fix: add "
                      "--deterministic --accel bt"});
  }
  config->trace = line.trace;
  config->statistics = line.statistics;
  config->perf_map = line.perf_map;
  config->lockstep = line.lockstep;
  Result<std::unique_ptr<Machine>> machine = Machine::Create(*config);
  if (!machine) return OutcomeOf(std::move(machine.error()));
  RunOutcome outcome = (*machine)->Run();
  machine->reset();  // with the terminal as it was
  std::fputs(outcome.statistics.c_str(), stderr);
  return outcome;
}

RunOutcome CheckCommand(const CommandLine& line) {
  const Result<Config> config = ConfigOf(line);
  if (!config) return OutcomeOf(config.error());
  return OutcomeOf(PrintText(
      fmt::format("{} is right: {}, {} CPU{}, {}\n",
                  line.config.empty() ? "the command line" : config->file.string(), config->name,
                  config->cpus, config->cpus == 1 ? "" : "s", FormatSize(config->memory))));
}

RunOutcome ProbeCommand(const CommandLine& line) {
  const ProbeResult result = RunProbe(kvm::Kvm());
  return OutcomeOf(PrintText(line.json ? ToJson(result) : ToText(result)));
}

RunOutcome ConfigCommand(const CommandLine& line) {
  if (line.explain.empty()) return OutcomeOf(PrintText(ConfigKeysMarkdown()));
  if (const ConfigKey* key = FindConfigKey(line.explain)) {
    return OutcomeOf(PrintText(Explain(*key)));
  }
  const LaterKey* later = FindLaterKey(line.explain);
  const ConfigKey* near = NearestConfigKey(line.explain);
  return OutcomeOf({ExitCode::kUsage,
                    later != nullptr
                        ? fmt::format("--explain: '{}' is not available in this version of vmm; "
                                      "fix: {}",
                                      later->name, later->instead)
                        : fmt::format("--explain: unknown key '{}'; fix: {}", line.explain,
                                      near == nullptr ? "`vmm config` lists every key"
                                                      : fmt::format("write {}", near->name))});
}

}  // namespace vmm
