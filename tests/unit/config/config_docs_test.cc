// The documents say what the program does: the tables in them are the tables of the code.
#include <fmt/format.h>

#include <catch2/catch.hpp>
#include <fstream>
#include <set>
#include <sstream>

#include "tests/unit/support/source_root.h"
#include "vmm/config/config_keys.h"
#include "vmm/config/load_config.h"
#include "vmm/config/value_rules.h"
#include "vmm/core/base/exit_code.h"

namespace {

std::string ReadDoc(const std::string& name) {
  std::ostringstream text;
  text << std::ifstream(SourceRoot() / "docs" / name).rdbuf();
  return text.str();
}

}  // namespace

TEST_CASE("docs/config.md holds the table of keys word for word", "[config][docs]") {
  CHECK(ReadDoc("config.md").find("\n" + vmm::ConfigKeysMarkdown() + "\n") != std::string::npos);
}

TEST_CASE("docs/config.md holds the keys of a disk word for word", "[config][docs]") {
  CHECK(ReadDoc("config.md").find("\n" + vmm::DiskKeysMarkdown() + "\n") != std::string::npos);
}

TEST_CASE("docs/exit-codes.md holds every exit code and no other", "[config][docs]") {
  std::string table = "| code | name | meaning |\n|---|---|---|\n";
#define X(name, value, meaning) table += fmt::format("| {} | {} | {} |\n", value, #name, meaning);
  VMM_EXIT_CODES(X)
#undef X
  CHECK(ReadDoc("exit-codes.md").find("\n" + table + "\n") != std::string::npos);
}

TEST_CASE("exit codes differ and keep clear of shells and systemd", "[config][docs]") {
  std::set<int> seen;
#define X(name, value, meaning) CHECK(seen.insert(value).second);
  VMM_EXIT_CODES(X)
#undef X
  for (int code : seen) {
    CHECK((code == 0 || (code >= 64 && code < 120)));
  }
}

TEST_CASE("every key's example and default are values that it takes", "[config][docs]") {
  for (const vmm::ConfigKey& key : vmm::ConfigKeys()) {
    INFO(key.name);
    for (std::string_view text : {key.example, key.default_text}) {
      const bool quoted = text.size() > 2 && text.front() == '"' && text.back() == '"';
      if (!quoted) continue;
      const auto plain = text.substr(1, text.size() - 2);
      if (plain.find('"') != std::string_view::npos) continue;  // words that quote a value
      CHECK(vmm::ReadText(key, plain, {}).has_value());
    }
    CHECK(key.help.back() != ' ');
    CHECK((key.help.back() == '.' || key.help.back() == '?'));
  }
}

TEST_CASE("every choice of a key reaches the Config as its own value", "[config]") {
  const auto with = [](const std::string& line) {
    auto config = vmm::ParseConfig("kernel = \"k\"\n" + line, "vm.toml", {}, false);
    REQUIRE(config);
    return *config;
  };
  CHECK(with("accel = \"auto\"").accel == vmm::AccelChoice::kAuto);
  CHECK(with("accel = \"kvm\"").accel == vmm::AccelChoice::kKvm);
  CHECK(with("accel = \"bt\"").accel == vmm::AccelChoice::kBt);
  CHECK(with("accel = \"interpreter\"").accel == vmm::AccelChoice::kInterpreter);
  CHECK(with("on_reboot = \"reset\"").on_reboot == vmm::OnReboot::kReset);
  CHECK(with("on_reboot = \"exit\"").on_reboot == vmm::OnReboot::kExit);
  CHECK(with("on_panic = \"exit\"").on_panic == vmm::OnPanic::kExit);
  CHECK(with("on_panic = \"reset\"").on_panic == vmm::OnPanic::kReset);
  CHECK(with("on_panic = \"pause\"").on_panic == vmm::OnPanic::kPause);
  CHECK(with("machine = \"pc\"").machine == vmm::MachineKind::kPc);
  CHECK(with("cpu = \"x86-64-v3,-avx2\"").cpu ==
        vmm::CpuChoice{.model = "x86-64-v3", .remove = {"avx2"}, .add = {}});
  CHECK(with("gdb_arch = \"auto\"").gdb_arch == vmm::GdbArch::kAuto);
  CHECK(with("gdb_arch = \"i8086\"").gdb_arch == vmm::GdbArch::kI8086);
  CHECK(with("gdb_arch = \"i386\"").gdb_arch == vmm::GdbArch::kI386);
  CHECK(with("gdb_arch = \"x86-64\"").gdb_arch == vmm::GdbArch::kX8664);
}

TEST_CASE("the defaults of a Config are those that the table promises", "[config][docs]") {
  // Each default that is a plain value, written out, changes nothing.
  std::string text = "kernel = \"k\"\n", section;
  for (const vmm::ConfigKey& key : vmm::ConfigKeys()) {
    if (key.default_text.find(' ') != std::string_view::npos || key.default_text == "none")
      continue;
    const size_t dot = key.name.find('.');
    const std::string in(dot == std::string_view::npos ? "" : key.name.substr(0, dot));
    if (in != section) text += "[" + (section = in) + "]\n";
    text += fmt::format("{} = {}\n", key.name.substr(dot + 1), key.default_text);
  }
  INFO(text);
  const auto written = vmm::ParseConfig(text, "vm.toml", {}, false);
  const auto silent = vmm::ParseConfig("kernel = \"k\"\n", "vm.toml", {}, false);
  REQUIRE(written);
  REQUIRE(silent);
  CHECK(written->machine == silent->machine);
  CHECK(written->cpus == silent->cpus);
  CHECK(written->memory == silent->memory);
  CHECK(written->accel == silent->accel);
  CHECK(written->append == silent->append);
  CHECK(written->modules == silent->modules);
  CHECK(written->on_reboot == silent->on_reboot);
  CHECK(written->on_panic == silent->on_panic);
  CHECK(written->stop_timeout == silent->stop_timeout);
  CHECK(written->serial == silent->serial);
  CHECK(written->gdb == silent->gdb);
  CHECK(written->gdb_wait == silent->gdb_wait);
  CHECK(written->gdb_arch == silent->gdb_arch);
}

TEST_CASE("docs/config.md holds the keys of a port word for word", "[config][docs]") {
  CHECK(ReadDoc("config.md").find("\n" + vmm::PortKeysMarkdown() + "\n") != std::string::npos);
}

TEST_CASE("docs/config.md holds the keys of a network card word for word", "[config][docs]") {
  CHECK(ReadDoc("config.md").find("\n" + vmm::NetKeysMarkdown() + "\n") != std::string::npos);
}

TEST_CASE("docs/config.md holds the keys of a shared directory word for word", "[config][docs]") {
  CHECK(ReadDoc("config.md").find("\n" + vmm::ShareKeysMarkdown() + "\n") != std::string::npos);
}
