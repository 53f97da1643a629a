#include <fmt/format.h>

#include <cstring>
#include <ctime>
#include <nlohmann/json.hpp>
#include <optional>

#include "vmm/cli/commands.h"
#include "vmm/cli/result_file.h"
#include "vmm/config/value_parsers.h"
#include "vmm/runner/junit_report.h"
#include "vmm/runner/prepare_guest.h"
#include "vmm/runner/test_list.h"
#include "vmm/runner/test_run.h"

namespace vmm {
namespace {

Result<std::chrono::milliseconds> TimeOf(const std::string& text, const char* option) {
  auto time = ParseTime(text);
  if (time) return *time;
  return Fail(ExitCode::kUsage, fmt::format("{}: {} ({}); fix: {}", option, time.error().what,
                                            time.error().why, time.error().fix));
}

// The command as a name for reports.
std::string NameOf(const CommandLine& line) {
  constexpr size_t kMost = 80;
  std::string name;
  for (const std::string& word : line.testing.command) name += (name.empty() ? "" : " ") + word;
  name = PlainText(name);
  if (name.size() > kMost) name = name.substr(0, kMost - 3) + "...";
  return name;
}

// `listed` is null for the only test of a command line.
Result<TestCase> MakeTest(const CommandLine& line, const ListedTest* listed) {
  const TestOptions& options = line.testing;
  CommandLine machine;
  machine.config = line.config;
  machine.settings = line.settings;
  TestCase test;
  test.command = options.command;
  test.rootfs = options.rootfs;
  test.modules = options.modules;
  test.load = options.load;
  test.busybox = options.busybox;
  auto wall = TimeOf(options.timeout, "--timeout");
  auto idle = TimeOf(options.idle_timeout, "--idle-timeout");
  if (!wall) return tl::unexpected(std::move(wall.error()));
  if (!idle) return tl::unexpected(std::move(idle.error()));
  if (listed != nullptr) {
    if (!listed->command.empty()) test.command = listed->command;
    if (!listed->config.empty()) machine.config = listed->config;
    if (!listed->rootfs.empty()) test.rootfs = listed->rootfs;
    if (!listed->modules.empty()) test.modules = listed->modules;
    if (!listed->load.empty()) test.load = listed->load;
    machine.settings.insert(machine.settings.end(), listed->settings.begin(),
                            listed->settings.end());
    wall = listed->timeout.value_or(*wall);
    idle = listed->idle_timeout.value_or(*idle);
  }
  auto config = ConfigOf(machine);
  if (!config) return tl::unexpected(std::move(config.error()));
  test.config = std::move(*config);
  if (wall->count() > 0) test.config.limits.wall = *wall;
  if (idle->count() > 0) test.config.limits.idle = *idle;
  // Its own stdin and stdout are no guest's.
  ConsoleSpec& console = test.config.serial[0];
  const bool shown = options.console || test.command.empty();
  if (console.kind == ConsoleSpec::Kind::kStdio && !shown) console = {};
  test.name = listed != nullptr ? listed->name : NameOf(line);
  if (test.name.empty()) test.name = test.config.name;
  if (auto good = CheckTest(test); !good) {
    Error error = std::move(good.error());
    return tl::unexpected(listed == nullptr ? error : std::move(error).WithContext(test.name));
  }
  return test;
}

Result<std::vector<TestCase>> MakeTests(const CommandLine& line) {
  std::vector<TestCase> tests;
  if (line.testing.list.empty()) {
    auto test = MakeTest(line, nullptr);
    if (!test) return tl::unexpected(std::move(test.error()));
    tests.push_back(std::move(*test));
    return tests;
  }
  if (!line.testing.command.empty()) {
    return Fail(ExitCode::kUsage, "--list names the commands; fix: leave out what is behind --");
  }
  const auto listed = ReadTestList(line.testing.list);
  if (!listed) return tl::unexpected(listed.error());
  for (const ListedTest& entry : *listed) {
    auto test = MakeTest(line, &entry);
    if (!test) return tl::unexpected(std::move(test.error()));
    tests.push_back(std::move(*test));
  }
  return tests;
}

std::string ToJson(const std::vector<TestResult>& results) {
  auto list = nlohmann::ordered_json::array();
  for (const TestResult& result : results) {
    nlohmann::ordered_json json;
    json["name"] = result.name;
    json["verdict"] = std::string(Name(result.end.verdict));
    json["command_status"] = nullptr;
    if (result.end.status) json["command_status"] = *result.end.status;
    json["exit_name"] = std::string(Name(result.end.code));
    json["reason"] = result.end.reason;
    json["kernel"] = nullptr;
    if (!result.kernel.empty()) json["kernel"] = result.kernel;
    json["engine"] = nullptr;
    if (result.outcome && !result.outcome->engine.empty()) json["engine"] = result.outcome->engine;
    json["duration_ms"] = result.duration.count();
    json["uptime_ms"] = result.outcome ? result.outcome->uptime_ms : 0;
    json["console_tail"] =
        result.outcome ? result.outcome->console_tail : std::vector<std::string>();
    list.push_back(std::move(json));
  }
  return list.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

RunOutcome OfOne(const TestResult& result) {
  RunOutcome outcome = result.outcome.value_or(RunOutcome());
  outcome.code = result.end.code;
  outcome.reason = result.end.reason;
  outcome.command_status = result.end.status;
  return outcome;
}

RunOutcome OfMany(const std::vector<TestResult>& results, bool interrupted) {
  RunOutcome outcome;
  size_t passed = 0;
  std::string others;
  for (const TestResult& result : results) {
    if (result.end.verdict == TestVerdict::kPass) {
      ++passed;
    } else {
      others += fmt::format("{}{} ({})", others.empty() ? "" : ", ", result.name,
                            Name(result.end.verdict));
    }
  }
  outcome.code = interrupted                ? ExitCode::kStopped
                 : passed == results.size() ? ExitCode::kSuccess
                                            : ExitCode::kTestsFailed;
  outcome.reason = passed == results.size()
                       ? fmt::format("all {} tests passed", passed)
                       : fmt::format("{} of {} tests did not pass: {}", results.size() - passed,
                                     results.size(), others);
  return outcome;
}

}  // namespace

RunOutcome TestCommand(const CommandLine& line) {
  std::optional<ResultFile> junit;
  if (!line.testing.junit.empty()) {
    auto prepared = ResultFile::Prepare(line.testing.junit);
    if (!prepared) return OutcomeOf(std::move(prepared.error()));
    junit = std::move(*prepared);
  }
  std::error_code ignored;
  if (line.testing.command.empty() && !line.config.empty() &&
      !std::filesystem::exists(line.config, ignored)) {
    return OutcomeOf(Error{ExitCode::kFileMissing,
                           fmt::format("there is no vm.toml '{0}'; fix: name one, or write the "
                                       "guest's command behind --: vmm test ... -- {0}",
                                       line.config.string())});
  }
  const auto tests = MakeTests(line);
  if (!tests) return OutcomeOf(tests.error());
  const bool is_list = !line.testing.list.empty();
  const int64_t started = std::time(nullptr);
  TestRun run(*tests, {line.testing.jobs, is_list, line.testing.console});
  const auto results = run.Run();
  if (!results) return OutcomeOf(results.error());
  RunOutcome outcome = is_list ? OfMany(*results, run.interrupted()) : OfOne(results->front());
  outcome.tests = ToJson(*results);
  Result<void> wrote;
  if (junit) wrote = junit->WriteText(JUnitXml(*results, started));
  if (wrote && run.output_error() != 0) {
    wrote = Fail(ExitCode::kIoError, fmt::format("can't write the output of the test: {}",
                                                 std::strerror(run.output_error())));
  }
  if (!wrote && outcome.code == ExitCode::kSuccess) {
    outcome.code = wrote.error().code;
    outcome.reason = wrote.error().message;
    outcome.command_status.reset();
  }
  return outcome;
}

}  // namespace vmm
