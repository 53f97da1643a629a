#include "vmm/cli/command_line.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <optional>

#include "vmm/config/config_keys.h"
#include "vmm/config/spelling.h"

namespace vmm {
namespace {

using Command = CommandLine::Command;

struct CommandRow {
  std::string_view name;
  Command command;
  bool describes_machine;  // takes --config and the options of the table of keys
  std::string_view help;
};

constexpr CommandRow kCommands[] = {
    {"run", Command::kRun, true, "Run a virtual machine (the default)"},
    {"check", Command::kCheck, true, "Say whether a vm.toml is right, and run nothing"},
    {"inspect", Command::kInspect, true, "Print the memory map, processors and devices"},
    {"probe", Command::kProbe, false, "Measure this host's KVM and say which engine to use"},
    {"config", Command::kConfig, false, "List the keys of vm.toml"},
    {"ctl", Command::kCtl, false, "Ask a running machine, or tell it what to do"},
    {"test", Command::kTest, true, "Run a command in a throw-away guest and return its status"},
    {"new", Command::kNew, false, "Make the directory of a new machine"},
    {"disk", Command::kDisk, false, "Make, describe, check, convert or resize a disk image"},
};

// Commands of the design that this version does not have.
constexpr std::string_view kLaterCommands[] = {"import"};

constexpr std::string_view kLogLevels[] = {"error", "warning", "info", "debug"};

constexpr std::string_view kFooter =
    "Options without a command are those of run: vmm --config vm.toml\n"
    "vmm COMMAND --help tells more; docs/config.md and docs/exit-codes.md tell the rest.";

// What stands for the value in the help.
std::string ValueWord(const ConfigKey& key) {
  switch (key.kind) {
    case ValueKind::kText:
    case ValueKind::kName:
      return "TEXT";
    case ValueKind::kInteger:
      return "N";
    case ValueKind::kBoolean:
      return "true|false";
    case ValueKind::kSize:
      return "SIZE";
    case ValueKind::kTime:
      return "TIME";
    case ValueKind::kChoice:
      return std::string(key.choices);
    case ValueKind::kFile:
      return "FILE";
    case ValueKind::kCpu:
      return "CPU";
    case ValueKind::kConsole:
      return "PLACE";
    case ValueKind::kModules:
      return "\"FILE ARGS\"";
    case ValueKind::kDisks:
      return "FILE[,KEY=VALUE...]";
    case ValueKind::kNets:
      return "MODE[,KEY=VALUE...]";
    case ValueKind::kPorts:
      return "NAME[,to=PLACE]";
    case ValueKind::kMac:
      return "MAC";
    case ValueKind::kForward:
      return "tcp|udp:[ADDRESS:]PORT:PORT";
    case ValueKind::kShares:
      return "DIRECTORY[,KEY=VALUE...]";
    case ValueKind::kIds:
      return "GUEST:HOST[:COUNT]";
    case ValueKind::kGdb:
      return "[HOST:]PORT|unix:PATH";
  }
  return "";
}

constexpr std::string_view kMachineFooter =
    "SIZE: 512M, 2G. TIME: 500ms, 30s, 5m. PLACE: stdio, pty, unix:PATH, file:PATH, null.\n"
    "Options win over the file; --kernel alone suffices without a file.";

bool IsCommand(std::string_view word) {
  return std::any_of(std::begin(kCommands), std::end(kCommands),
                     [&](const CommandRow& row) { return row.name == word; });
}

// "vmm disk create"
std::string NameOf(const CLI::App& app) {
  return app.get_parent() == nullptr ? app.get_name()
                                     : NameOf(*app.get_parent()) + " " + app.get_name();
}

// Builds CLI11's tree, lets it parse, and reads what it found.
class Parser {
 public:
  Parser();
  // `command`: what stood behind "--", of test.
  Result<CommandLine> Parse(std::vector<std::string> arguments, std::vector<std::string> command);

 private:
  struct KeyOption {
    const ConfigKey* key;
    CLI::Option* option;
  };

  void AddCommand(const CommandRow& row);
  void AddMachineOptions(CLI::App& app);
  void AddResultOption(CLI::App& app);
  void AddTraceOptions(CLI::App& app);
  Result<CommandLine> Read(const CommandRow& row, CLI::App& app);
  Error UnknownArgument(const CLI::App& app, const std::string& argument) const;

  CLI::App app_{"vmm runs one virtual machine, with KVM or without it.", "vmm"};
  CommandLine line_;
  std::string config_, result_, dtb_, log_level_, record_, replay_, state_hash_;
  std::vector<std::pair<const CLI::App*, KeyOption>> key_options_;
};

Parser::Parser() {
  app_.footer(std::string(kFooter));
  app_.set_version_flag("-V,--version", std::string("vmm ") + VMM_VERSION);
  app_.require_subcommand(1);
  app_.get_formatter()->column_width(34);
  for (const CommandRow& row : kCommands) AddCommand(row);
}

void Parser::AddCommand(const CommandRow& row) {
  CLI::App& app = *app_.add_subcommand(std::string(row.name), std::string(row.help));
  app.footer(std::string(row.describes_machine ? kMachineFooter : ""));
  app.allow_extras();  // reported by UnknownArgument(), which knows the nearest spelling
  if (row.describes_machine) AddMachineOptions(app);
  app.add_option("--log-level", log_level_, "How much vmm tells: error, warning, info or debug")
      ->type_name("LEVEL");
  if (row.command == Command::kRun) {
    AddResultOption(app);
    app.add_flag("--discard-state", line_.discard_state,
                 "Delete the suspended machine, if there is one, and start afresh");
    app.add_flag("--stats", line_.statistics,
                 "Print at the end how the engine spent the run (docs/statistics.md)");
    app.add_flag("--perf-map", line_.perf_map,
                 "Write names of translated code to /tmp/perf-PID.map, for perf report");
    app.add_flag("--lockstep", line_.lockstep,
                 "Compare translated code with the interpreter at every block of a deterministic "
                 "run; the first difference ends it");
    AddTraceOptions(app);
  } else if (row.command == Command::kInspect) {
    app.add_option("--dtb", dtb_, "Write the machine as a flattened device tree")
        ->type_name("FILE");
  } else if (row.command == Command::kProbe) {
    app.add_flag("--json", line_.json, "Print JSON");
  } else if (row.command == Command::kConfig) {
    app.add_option("--explain", line_.explain, "Explain one key")->type_name("KEY");
  } else if (row.command == Command::kDisk) {
    AddDiskActions(app, &line_.disk);
  } else if (row.command == Command::kCtl) {
    AddCtlActions(app, &line_.ctl);
  } else if (row.command == Command::kNew) {
    AddNewOptions(app, &line_.making);
  } else if (row.command == Command::kTest) {
    AddResultOption(app);
    AddTestOptions(app, &line_.testing);
  }
}

void Parser::AddResultOption(CLI::App& app) {
  app.add_option("--result", result_, "Write how the run ended to this file, as JSON")
      ->type_name("FILE");
}

// Of a deterministic run; docs/deterministic.md.
void Parser::AddTraceOptions(CLI::App& app) {
  app.add_option("--record", record_, "Write the inputs of a deterministic run to this file")
      ->type_name("FILE");
  app.add_option("--replay", replay_, "Take the inputs from this file, and no others")
      ->type_name("FILE");
  app.add_option("--state-hash", state_hash_,
                 "Write a hash of a deterministic run's state to this file, at every step")
      ->type_name("FILE");
  app.add_option("--state-hash-every", line_.trace.state_hash_every,
                 "How many instructions a step has (1000000)")
      ->check(CLI::Range(uint64_t{1}, uint64_t{1} << 62))
      ->type_name("N");
}

void Parser::AddMachineOptions(CLI::App& app) {
  app.add_option("-c,--config,file", config_, "The vm.toml, or the directory that holds it")
      ->type_name("FILE");
  for (const ConfigKey& key : ConfigKeys()) {
    // The values are checked where those of the file are; here they are any text.
    CLI::Option* option = app.add_option(
        std::string(key.option), [](const CLI::results_t&) { return true; }, std::string(key.help));
    option->type_name(ValueWord(key));
    // A switch may stand alone: --deterministic.
    option->expected(key.kind == ValueKind::kBoolean ? 0 : 1, 1)->allow_extra_args(false);
    option->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    key_options_.push_back({&app, {&key, option}});
  }
}

Result<CommandLine> Parser::Parse(std::vector<std::string> arguments,
                                  std::vector<std::string> command) {
  line_.testing.command = std::move(command);
  std::reverse(arguments.begin(), arguments.end());  // as CLI11 wants it
  try {
    app_.parse(std::move(arguments));
  } catch (const CLI::CallForHelp&) {
    line_.command = Command::kShowText;
    line_.text = app_.help();
    return line_;
  } catch (const CLI::CallForVersion& version) {
    line_.command = Command::kShowText;
    line_.text = std::string(version.what()) + "\n";
    return line_;
  } catch (const CLI::ParseError& error) {
    return Fail(ExitCode::kUsage, fmt::format("{}; fix: see vmm --help", error.what()));
  }
  for (const CommandRow& row : kCommands) {
    CLI::App& app = *app_.get_subcommand(std::string(row.name));
    if (!app.parsed()) continue;
    for (const CLI::App* action : app.get_subcommands()) {
      if (const auto extras = action->remaining(); !extras.empty()) {
        return tl::unexpected(UnknownArgument(*action, extras.front()));
      }
    }
    return Read(row, app);
  }
  return Fail(ExitCode::kUsage, "no command is given; fix: see vmm --help");
}

Result<CommandLine> Parser::Read(const CommandRow& row, CLI::App& app) {
  if (const auto extras = app.remaining(); !extras.empty()) {
    return tl::unexpected(UnknownArgument(app, extras.front()));
  }
  line_.command = row.command;
  line_.config = config_;
  line_.result = result_;
  line_.dtb = dtb_;
  line_.trace.record = record_;
  line_.trace.replay = replay_;
  line_.trace.state_hash = state_hash_;
  if (!log_level_.empty()) {
    const auto* level = std::find(std::begin(kLogLevels), std::end(kLogLevels), log_level_);
    if (level == std::end(kLogLevels)) {
      const std::string_view near = NearestSpelling(log_level_, kLogLevels);
      return Fail(
          ExitCode::kUsage,
          fmt::format("--log-level: '{}' is no level (known: {}); fix: write {}", log_level_,
                      fmt::join(kLogLevels, ", "), near.empty() ? "info" : near));
    }
    line_.log_level = static_cast<LogLevel>(level - std::begin(kLogLevels));
  }
  for (const auto& [owner, key_option] : key_options_) {
    if (owner != &app) continue;
    std::vector<std::string> values = key_option.option->results();
    if (key_option.key->kind == ValueKind::kBoolean && key_option.option->count() > 0 &&
        (values.empty() || values.back().empty() || values.back() == "{}")) {
      values = {"true"};
    }
    for (const std::string& value : values) {
      line_.settings.push_back({key_option.key->name, value, std::string(key_option.key->option)});
    }
  }
  return line_;
}

Error Parser::UnknownArgument(const CLI::App& app, const std::string& argument) const {
  const std::string word = argument.substr(0, argument.find('='));
  // `vmm test --kernel K uname -r`
  const bool wants_command = app.get_name() == "test" && line_.testing.command.empty();
  const std::string help =
      wants_command ? "write the guest's command behind --: vmm test ... -- COMMAND WORD..."
                    : fmt::format("see {} --help", NameOf(app));
  if (!word.starts_with("-")) {
    return {ExitCode::kUsage, fmt::format("'{}' is one argument too many; fix: {}", word, help)};
  }
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  const std::vector<std::string_view> candidates(names.begin(), names.end());
  std::string_view near = NearestSpelling(word, candidates);
  if (near.empty()) {  // what other programs call it: --smp
    const ConfigKey* key =
        NearestConfigKey(word.substr(std::min(word.find_first_not_of('-'), word.size())));
    if (key != nullptr && std::count(names.begin(), names.end(), key->option) != 0) {
      near = key->option;
    }
  }
  return {ExitCode::kUsage, near.empty()
                                ? fmt::format("unknown option {}; fix: {}", word, help)
                                : fmt::format("unknown option {}; fix: write {}", word, near)};
}

// What stands where a command should, and is none.
Error UnknownCommand(const std::string& word) {
  if (std::find(std::begin(kLaterCommands), std::end(kLaterCommands), word) !=
      std::end(kLaterCommands)) {
    return {ExitCode::kUsage,
            fmt::format("'vmm {}' is not available in this version; fix: see vmm --help", word)};
  }
  std::error_code ignored;
  if (std::filesystem::exists(word, ignored)) {
    return {ExitCode::kUsage,
            fmt::format("'{}' is a file, not a command; fix: vmm run {}", word, word)};
  }
  std::vector<std::string_view> names;
  for (const CommandRow& row : kCommands) names.push_back(row.name);
  const std::string_view near = NearestSpelling(word, names);
  return {ExitCode::kUsage,
          fmt::format("unknown command '{}'; fix: {}", word,
                      near.empty() ? "see vmm --help" : fmt::format("write vmm {}", near))};
}

}  // namespace

Result<CommandLine> ParseCommandLine(std::span<const char* const> arguments) {
  std::vector<std::string> words(arguments.begin(), arguments.end());
  if (words.empty()) {
    return Fail(ExitCode::kUsage,
                "there is nothing to do; fix: vmm --config vm.toml, or see vmm --help");
  }
  const std::string& first = words.front();
  if (first == "help") words.front() = "--help";
  const bool about_vmm =
      first == "-h" || first == "--help" || first == "-V" || first == "--version";
  if (!about_vmm && !IsCommand(first)) {
    if (!first.starts_with("-")) return tl::unexpected(UnknownCommand(first));
    words.insert(words.begin(), "run");
  }
  // What is behind "--" is the guest's, whatever it looks like.
  std::vector<std::string> command;
  const auto end = std::find(words.begin(), words.end(), "--");
  if (words.front() == "test" && end != words.end()) {
    command.assign(end + 1, words.end());
    words.erase(end, words.end());
    if (command.empty()) {
      return Fail(ExitCode::kUsage, "no command stands behind --; fix: write it, or leave -- out");
    }
  }
  return Parser().Parse(std::move(words), std::move(command));
}

std::filesystem::path FindResultPath(std::span<const char* const> arguments) {
  constexpr std::string_view kOption = "--result";
  std::filesystem::path found;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string_view word = arguments[i];
    if (word == "--") break;  // the rest is a guest's command
    if (word == kOption && i + 1 < arguments.size()) found = arguments[i + 1];
    if (word.starts_with("--result=")) found = word.substr(kOption.size() + 1);
  }
  return found;
}

}  // namespace vmm
