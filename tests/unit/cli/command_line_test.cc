#include "vmm/cli/command_line.h"

#include <catch2/catch.hpp>

#include "vmm/config/config_keys.h"

using vmm::CommandLine;
using Command = vmm::CommandLine::Command;

namespace {

CommandLine Good(std::vector<const char*> words) {
  auto line = vmm::ParseCommandLine(words);
  INFO((line ? std::string() : line.error().message));
  REQUIRE(line);
  return *line;
}

std::string Broken(std::vector<const char*> words) {
  const auto line = vmm::ParseCommandLine(words);
  REQUIRE_FALSE(line);
  CHECK(line.error().code == vmm::ExitCode::kUsage);
  CHECK(line.error().message.find("; fix: ") != std::string::npos);
  return line.error().message;
}

}  // namespace

TEST_CASE("options without a command are those of run", "[cli]") {
  const CommandLine line = Good({"--config", "vm.toml", "--result", "r.json"});
  CHECK(line.command == Command::kRun);
  CHECK(line.config == "vm.toml");
  CHECK(line.result == "r.json");
  CHECK(line.settings.empty());
  CHECK(line.log_level == vmm::LogLevel::kInfo);
}

TEST_CASE("every command is known by its name", "[cli]") {
  CHECK(Good({"run", "vm.toml"}).config == "vm.toml");
  CHECK(Good({"check", "vm.toml"}).command == Command::kCheck);
  CHECK(Good({"check", "-c", "vm.toml"}).config == "vm.toml");
  CHECK(Good({"inspect", "vm.toml", "--dtb", "x.dtb"}).dtb == "x.dtb");
  CHECK(Good({"probe", "--json"}).json);
  CHECK_FALSE(Good({"probe"}).json);
  CHECK(Good({"config", "--explain", "cpus"}).explain == "cpus");
}

TEST_CASE("every key of vm.toml is an option of what describes a machine", "[cli]") {
  for (const vmm::ConfigKey& key : vmm::ConfigKeys()) {
    const std::string option(key.option);
    INFO(option);
    for (const char* command : {"run", "check", "inspect"}) {
      const CommandLine line = Good({command, option.c_str(), "value"});
      REQUIRE(line.settings.size() == 1);
      CHECK(line.settings[0].key == key.name);
      CHECK(line.settings[0].value == "value");
      CHECK(line.settings[0].origin == option);
    }
  }
}

TEST_CASE("values of options arrive as they were typed", "[cli]") {
  for (const char* value :
       {"", "a b", "[a,b]", "\"quoted\"", "'q'", "root=/dev/sda1,ro", "%x", "{}", "\xff"}) {
    INFO(value);
    CHECK(Good({"run", "--append", value}).settings.at(0).value == value);
  }
  CHECK(Good({"run", "--append=-x"}).settings.at(0).value == "-x");
  CHECK(Good({"run", "--append=a=b"}).settings.at(0).value == "a=b");
}

TEST_CASE("an option that is repeated gives all its values in order", "[cli]") {
  const auto settings =
      Good({"run", "--module", "a x", "--module", "b", "--cpus", "1", "--cpus", "2"}).settings;
  REQUIRE(settings.size() == 4);
  CHECK(settings[0].value == "1");
  CHECK(settings[1].value == "2");
  CHECK(settings[2].value == "a x");
  CHECK(settings[3].value == "b");
}

TEST_CASE("a misspelt option or command is answered with the right one", "[cli]") {
  CHECK(Broken({"run", "--memroy", "1G"}) == "unknown option --memroy; fix: write --memory");
  CHECK(Broken({"run", "--memroy=1G"}) == "unknown option --memroy; fix: write --memory");
  CHECK(Broken({"--smp", "4"}) == "unknown option --smp; fix: write --cpus");
  CHECK(Broken({"--kernell", "k"}) == "unknown option --kernell; fix: write --kernel");
  CHECK(Broken({"chekc", "vm.toml"}) == "unknown command 'chekc'; fix: write vmm check");
  CHECK(Broken({"frobnicate"}) == "unknown command 'frobnicate'; fix: see vmm --help");
  CHECK(Broken({"import", "x.vmx"}) ==
        "'vmm import' is not available in this version; fix: see vmm --help");
  CHECK(Broken({"/dev/null"}) == "'/dev/null' is a file, not a command; fix: vmm run /dev/null");
  CHECK(Broken({"probe", "--jsn"}) == "unknown option --jsn; fix: write --json");
  CHECK(Broken({"run", "-Z"}) == "unknown option -Z; fix: see vmm run --help");
}

TEST_CASE("what is missing or too much is said", "[cli]") {
  CHECK(Broken({}).starts_with("there is nothing to do"));
  CHECK(Broken({"run", "--memory"}).find("--memory") != std::string::npos);
  CHECK(Broken({"run", "a.toml", "b.toml"}).starts_with("'b.toml' is one argument too many"));
  CHECK(Broken({"run", "--log-level", "verbose"}).find("fix: write ") != std::string::npos);
  CHECK(Broken({"run", "--"}).empty() == false);
}

TEST_CASE("log levels are those of the log", "[cli]") {
  CHECK(Good({"run", "--log-level", "error"}).log_level == vmm::LogLevel::kError);
  CHECK(Good({"check", "--log-level", "warning"}).log_level == vmm::LogLevel::kWarning);
  CHECK(Good({"probe", "--log-level", "debug"}).log_level == vmm::LogLevel::kDebug);
}

TEST_CASE("help and version are texts that end with success", "[cli]") {
  CHECK(Good({"--version"}).text.starts_with("vmm "));
  for (std::vector<const char*> words : {std::vector<const char*>{"--help"}, {"help"}, {"-h"}}) {
    const CommandLine line = Good(words);
    CHECK(line.command == Command::kShowText);
    for (const char* command : {"run", "check", "inspect", "probe", "config"}) {
      CHECK(line.text.find(command) != std::string::npos);
    }
  }
  const std::string run = Good({"run", "--help"}).text;
  for (const vmm::ConfigKey& key : vmm::ConfigKeys()) {
    CHECK(run.find(std::string(key.option) + " ") != std::string::npos);
  }
}

TEST_CASE("the result file is found in a command line that is wrong otherwise", "[cli]") {
  const auto find = [](std::vector<const char*> words) { return vmm::FindResultPath(words); };
  CHECK(find({"run", "--nonsense", "--result", "r.json"}) == "r.json");
  CHECK(find({"run", "--result=r.json", "--nonsense"}) == "r.json");
  CHECK(find({"run", "--result"}).empty());
  CHECK(find({"run"}).empty());
}

TEST_CASE("an option that is true or false is true when it stands alone", "[cli]") {
  const auto value = [](std::vector<const char*> words) {
    const CommandLine line = Good(words);
    REQUIRE(line.settings.size() == 1);
    CHECK(line.settings[0].key == "gdb_wait");
    return line.settings[0].value;
  };
  CHECK(value({"run", "--gdb-wait"}) == "true");
  CHECK(value({"run", "--gdb-wait", "false"}) == "false");
  CHECK(value({"run", "--gdb-wait=true"}) == "true");
  CHECK(Good({"run", "--gdb-wait", "--gdb", "1234"}).settings.size() == 2);
}

TEST_CASE("ctl knows its commands, and where the machine is before or behind them", "[cli]") {
  using Action = vmm::CtlOptions::Action;
  using Asked = vmm::control::Command;
  const auto status = Good({"ctl", "status"});
  CHECK(status.command == Command::kCtl);
  CHECK(status.ctl.action == Action::kAsk);
  CHECK(status.ctl.request.command == Asked::kStatus);
  CHECK(Good({"ctl", "-s", "x", "pause"}).ctl.socket == "x");
  CHECK(Good({"ctl", "pause", "--socket", "x"}).ctl.socket == "x");
  CHECK(Good({"ctl", "--config", "d", "stats", "--json"}).ctl.config == "d");
  CHECK(Good({"ctl", "--json", "stats"}).ctl.json);
  const auto stop = Good({"ctl", "stop", "--force", "--wait"});
  CHECK(stop.ctl.request.command == Asked::kStop);
  CHECK((stop.ctl.request.force && stop.ctl.wait));
  for (unsigned i = 0; i <= static_cast<unsigned>(Asked::kWait); ++i) {
    const std::string name(NameOf(static_cast<Asked>(i)));
    CHECK(Good({"ctl", name.c_str()}).ctl.request.command == static_cast<Asked>(i));
  }
  const auto attach = Good({"ctl", "attach", "serial2"});
  CHECK(attach.ctl.action == Action::kAttach);
  CHECK(attach.ctl.console == "serial2");
  CHECK(Good({"ctl", "attach"}).ctl.console == "serial0");
  Broken({"ctl"});
  Broken({"ctl", "explode"});
  Broken({"ctl", "pause", "--force"});
  CHECK(Broken({"ctl", "stop", "--froce"}) == "unknown option --froce; fix: write --force");
}

TEST_CASE("what stands behind -- is the guest's command, word by word", "[cli]") {
  const CommandLine line = Good({"test", "--kernel", "k", "--timeout", "30s", "-j", "4", "--",
                                 "run", "--result", "x", "--", "", "-j"});
  CHECK(line.command == Command::kTest);
  CHECK(line.testing.command == std::vector<std::string>{"run", "--result", "x", "--", "", "-j"});
  CHECK(line.testing.timeout == "30s");
  CHECK(line.testing.jobs == 4);
  CHECK(line.result.empty());
  REQUIRE(line.settings.size() == 1);
  CHECK(line.settings[0].key == "kernel");
  CHECK(Good({"test", "vm.toml"}).config == "vm.toml");
  CHECK(Good({"test", "--kernel", "k", "--load", "a", "--load", "b"}).testing.load ==
        std::vector<std::string>{"a", "b"});
  Broken({"test", "--kernel", "k", "--"});
  Broken({"test", "--kernel", "k", "--jobs", "0"});
  const char* const words[] = {"test", "--", "x", "--result", "y"};
  CHECK(vmm::FindResultPath(words).empty());
}
