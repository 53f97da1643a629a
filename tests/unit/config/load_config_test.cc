#include "vmm/config/load_config.h"

#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "tests/unit/support/temp_dir.h"

using namespace std::chrono_literals;
using vmm::Override;

namespace {

vmm::Config Good(std::string_view text, std::vector<Override> overrides = {}) {
  auto config = vmm::ParseConfig(text, "dir/vm.toml", overrides, false);
  INFO((config ? std::string() : config.error().message));
  REQUIRE(config);
  return *config;
}

std::string Broken(std::string_view text, std::vector<Override> overrides = {}) {
  auto config = vmm::ParseConfig(text, "vm.toml", overrides, false);
  REQUIRE_FALSE(config);
  return config.error().message;
}

}  // namespace

TEST_CASE("a kernel alone makes a machine with one CPU and a console", "[config]") {
  const vmm::Config config = Good("kernel = 'k'");
  CHECK(config.kernel == "dir/k");
  CHECK(config.name == "dir");
  CHECK(config.directory == "dir");
  CHECK(config.cpus == 1);
  CHECK(config.memory == 256 * vmm::kMiB);
  CHECK(config.serial[0].kind == vmm::ConsoleSpec::Kind::kStdio);
  CHECK(config.serial[1].kind == vmm::ConsoleSpec::Kind::kNull);
  CHECK(config.stop_timeout == 30s);
  CHECK(config.limits.wall == 0s);
  CHECK_FALSE(config.accel_move.has_value());
  CHECK(config.accel_cell);
}

TEST_CASE("every key reaches its field", "[config]") {
  const vmm::Config config = Good(R"(
name = "web1"
machine = "pc"
cpus = 8
memory = "3G"
cpu = "host"
accel = "kvm"
accel_move = true
accel_cell = false
kernel = "/boot/vmlinuz"
initrd = "initrd.img"
append = "console=ttyS0 \u00E9"
modules = ["a.elf", { path = "/b.elf", args = "x y" }]
on_reboot = "exit"
on_panic = "pause"
stop_timeout = "0s"

[console]
serial0 = "unix:con.sock"
serial1 = "file:/tmp/log"
serial2 = "pty"
serial3 = "stdio"

[limits]
wall = "10m"
idle = "1500ms"
)");
  using Kind = vmm::ConsoleSpec::Kind;
  CHECK(config.name == "web1");
  CHECK(config.cpus == 8);
  CHECK(config.memory == 3 * vmm::kGiB);
  CHECK(config.accel == vmm::AccelChoice::kKvm);
  CHECK(config.accel_move == true);
  CHECK_FALSE(config.accel_cell);
  CHECK(config.kernel == "/boot/vmlinuz");
  CHECK(config.initrd == "dir/initrd.img");
  CHECK(config.append == "console=ttyS0 \u00E9");
  CHECK(config.modules == std::vector<vmm::ModuleSpec>{{"dir/a.elf", ""}, {"/b.elf", "x y"}});
  CHECK(config.on_reboot == vmm::OnReboot::kExit);
  CHECK(config.on_panic == vmm::OnPanic::kPause);
  CHECK(config.stop_timeout == 0s);
  CHECK(config.serial[0] == vmm::ConsoleSpec{Kind::kUnix, "dir/con.sock"});
  CHECK(config.serial[1] == vmm::ConsoleSpec{Kind::kFile, "/tmp/log"});
  CHECK(config.serial[2].kind == Kind::kPty);
  CHECK(config.serial[3].kind == Kind::kStdio);
  CHECK(config.limits.wall == 10min);
  CHECK(config.limits.idle == 1500ms);
}

TEST_CASE("sections may be written as dotted keys and modules as [[modules]]", "[config]") {
  const vmm::Config config = Good("kernel = 'k'\nlimits.wall = '1s'\n[[modules]]\npath = 'm'\n");
  CHECK(config.limits.wall == 1s);
  CHECK(config.modules == std::vector<vmm::ModuleSpec>{{"dir/m", ""}});
}

TEST_CASE("line ends of other systems and a byte order mark do no harm", "[config]") {
  CHECK(Good("\xEF\xBB\xBFkernel = 'k'\r\ncpus = 2\r\n").cpus == 2);
}

TEST_CASE("a quoted key with a dot in it is no section's key", "[config]") {
  CHECK(Broken("kernel = 'k'\n'limits.wall' = '1s'").rfind("vm.toml:2:1: unknown key", 0) == 0);
}

TEST_CASE("an option wins over the file, and the last option over the first", "[config]") {
  const vmm::Config config = Good("kernel = 'k'\nmemory = '1G'\ncpus = 4\naccel = 'kvm'",
                                  {{"memory", "64M", "--memory"},
                                   {"cpus", "2", "--cpus"},
                                   {"cpus", "3", "--cpus"},
                                   {"append", "quiet", "--append"},
                                   {"limits.wall", "5s", "--wall-limit"},
                                   {"console.serial0", "null", "--serial0"}});
  CHECK(config.memory == 64 * vmm::kMiB);
  CHECK(config.cpus == 3);
  CHECK(config.accel == vmm::AccelChoice::kKvm);
  CHECK(config.append == "quiet");
  CHECK(config.limits.wall == 5s);
  CHECK(config.serial[0].kind == vmm::ConsoleSpec::Kind::kNull);
}

TEST_CASE("paths of options start at the working directory, not at the file", "[config]") {
  const vmm::Config config = Good("kernel = 'k'\ninitrd = 'i'", {{"kernel", "x/k", "--kernel"}});
  CHECK(config.kernel == "x/k");
  CHECK(config.initrd == "dir/i");
}

TEST_CASE("an empty option takes back what the file gave", "[config]") {
  const vmm::Config config =
      Good("kernel = 'k'\ninitrd = 'i'\nmodules = ['m']",
           {{"initrd", "", "--initrd"}, {"modules", "", "--module"}, {"append", "", "--append"}});
  CHECK(config.initrd.empty());
  CHECK(config.modules.empty());
  CHECK(config.append.empty());
  CHECK(Broken("kernel = 'k'", {{"kernel", "", "--kernel"}}).find("nothing to boot") !=
        std::string::npos);
}

TEST_CASE("modules of the command line replace those of the file", "[config]") {
  const vmm::Config config =
      Good("kernel = 'k'\nmodules = ['m']",
           {{"modules", "a.elf", "--module"}, {"modules", "b.elf one two", "--module"}});
  CHECK(config.modules == std::vector<vmm::ModuleSpec>{{"a.elf", ""}, {"b.elf", "one two"}});
}

TEST_CASE("a wrong option is reported by its own name", "[config]") {
  CHECK(Broken("kernel = 'k'", {{"memory", "64", "--memory"}}) ==
        "--memory: '64' is not a size (a size is a whole number followed by K, M or G); fix: "
        "write \"64M\"");
  CHECK(Broken("kernel = 'k'", {{"accel", "kmv", "--accel"}}).rfind("--accel: ", 0) == 0);
  const Override wrong[] = {{"cpus", "9", "--cpus"}};
  CHECK(vmm::ParseConfig("kernel = 'k'", "vm.toml", wrong, false).error().code ==
        vmm::ExitCode::kUsage);
}

TEST_CASE("a combination is blamed on the option that completes it", "[config]") {
  CHECK(Broken("kernel = 'k'\naccel_move = true", {{"accel", "interpreter", "--accel"}})
            .rfind("vm.toml:2:14: accel_move", 0) == 0);
  CHECK(Broken("kernel = 'k'\n[console]\nserial0 = 'file:a'",
               {{"console.serial1", "file:./dir/../a", "--serial1"}})
            .rfind("--serial1: ", 0) == 0);
}

TEST_CASE("options alone describe a machine", "[config]") {
  TempDir temp;
  const std::string kernel = temp.Write("k", "kernel").string();
  const Override settings[] = {{"kernel", kernel, "--kernel"}, {"cpus", "2", "--cpus"}};
  const auto config = vmm::ConfigFromOverrides(settings);
  REQUIRE(config);
  CHECK(config->kernel == kernel);
  CHECK(config->cpus == 2);
  CHECK(config->name == "vm");
  CHECK(config->file.empty());

  const auto nothing = vmm::ConfigFromOverrides({});
  REQUIRE_FALSE(nothing);
  CHECK(nothing.error().code == vmm::ExitCode::kUsage);
  CHECK(nothing.error().message ==
        "there is nothing to boot (no kernel is given); fix: give --kernel FILE, or --config FILE");
}

TEST_CASE("an empty image is malformed wherever it was named", "[config]") {
  TempDir temp;
  const std::string kernel = temp.Write("k", "").string();
  const Override settings[] = {{"kernel", kernel, "--kernel"}};
  const auto config = vmm::ConfigFromOverrides(settings);
  REQUIRE_FALSE(config);
  CHECK(config.error().code == vmm::ExitCode::kConfigInvalid);
  CHECK_THAT(config.error().message,
             Catch::StartsWith("--kernel: the kernel " + kernel + " is empty"));
}

TEST_CASE("a directory stands for the vm.toml in it and names the machine", "[config]") {
  TempDir temp;
  std::filesystem::create_directory(temp.path() / "web 1");
  temp.Write("web 1/k", "kernel");
  temp.Write("web 1/vm.toml", "kernel = 'k'\n");
  const auto config = vmm::LoadConfig(temp.path() / "web 1");
  REQUIRE(config);
  CHECK(config->name == "web_1");
  CHECK(config->kernel == temp.path() / "web 1/k");
}

TEST_CASE("a missing vm.toml is told apart from a broken one", "[config]") {
  const auto config = vmm::LoadConfig("/nonexistent/vm.toml");
  REQUIRE_FALSE(config);
  CHECK(config.error().code == vmm::ExitCode::kFileMissing);
  CHECK(config.error().message.rfind("can't read /nonexistent/vm.toml: No such file", 0) == 0);
  CHECK(config.error().message.find("; fix: ") != std::string::npos);
}

TEST_CASE("a file of the wrong kind is refused without reading all of it", "[config]") {
  const auto config = vmm::LoadConfig("/dev/zero");
  REQUIRE_FALSE(config);
  CHECK(config.error().code == vmm::ExitCode::kConfigInvalid);
}

TEST_CASE("what the guest's memory can't hold is refused", "[config]") {
  TempDir temp;
  temp.Write("k", "kernel");
  const auto initrd = temp.Write("i", "initrd");
  std::filesystem::resize_file(initrd, 300 * vmm::kMiB);
  const auto file = temp.Write("vm.toml", "kernel = 'k'\ninitrd = 'i'\nmemory = '128M'\n");
  const auto config = vmm::LoadConfig(file);
  REQUIRE_FALSE(config);
  CHECK(config.error().code == vmm::ExitCode::kConfigInvalid);
  CHECK(config.error().message ==
        file.string() +
            ":3:10: kernel, initrd and modules have 301 MiB, the guest's memory 128 MiB (the "
            "guest could not hold them); fix: write memory = \"384M\" or more");
  const Override more[] = {{"memory", "384M", "--memory"}};
  CHECK(vmm::LoadConfig(file, more));
}

TEST_CASE("an option repairs a file that names what is not there", "[config]") {
  TempDir temp;
  const auto kernel = temp.Write("k", "kernel").string();
  const auto file = temp.Write("vm.toml", "kernel = 'gone'\n");
  const Override repair[] = {{"kernel", kernel, "--kernel"}};
  CHECK(vmm::LoadConfig(file).error().code == vmm::ExitCode::kFileMissing);
  CHECK(vmm::LoadConfig(file, repair));
}

TEST_CASE("a file that may not be read gives the exit code for that", "[config]") {
  if (geteuid() == 0) {
    WARN("skipped: root may read every file");
    return;
  }
  TempDir temp;
  const auto kernel = temp.Write("k", "kernel");
  chmod(kernel.c_str(), 0);
  const auto config = vmm::LoadConfig(temp.Write("vm.toml", "kernel = 'k'\n"));
  REQUIRE_FALSE(config);
  CHECK(config.error().code == vmm::ExitCode::kNoPermission);
  CHECK(config.error().message.find("fix: allow it: chmod a+r ") != std::string::npos);
}

TEST_CASE("a file with a hundred mistakes is answered with twenty lines", "[config]") {
  std::string text = "kernel = 'k'\n";
  for (int i = 0; i < 100; ++i) text += "unknown_" + std::to_string(i) + " = 1\n";
  const std::string message = Broken(text);
  CHECK(std::count(message.begin(), message.end(), '\n') == 20);
  CHECK(message.find("... and 80 more") != std::string::npos);
}

TEST_CASE("no nesting of tables and lists ends in a crash", "[config]") {
  std::string dots = "kernel = 'k'\n";
  for (int i = 0; i < 200'000; ++i) dots += "a.";
  CHECK(Broken(dots + "a = 1").find("too many dots") != std::string::npos);
  CHECK(Broken("kernel = 'k'\nmodules = " + std::string(100'000, '[')).find("; fix: ") !=
        std::string::npos);
  std::string tables = "x = ";
  for (int i = 0; i < 50'000; ++i) tables += "{a=";
  CHECK(Broken(tables).find("; fix: ") != std::string::npos);
}

TEST_CASE("what a file says can't break a message or steer the terminal", "[config]") {
  TempDir temp;
  const auto file = temp.Write("vm.toml", "kernel = \"a\\n\\u001Bb\"\n");
  const auto config = vmm::LoadConfig(file);
  REQUIRE_FALSE(config);
  CHECK(config.error().message.find('\n') == std::string::npos);
  CHECK(config.error().message.find("a??b does not exist") != std::string::npos);
}

TEST_CASE("letters with an accent outside a string are a syntax error, not a crash", "[config]") {
  CHECK(Broken("kernel = 'k'\n\u00E9 = 1").starts_with("vm.toml:2:1: "));
  CHECK(Broken("\u0317").starts_with("vm.toml:1:1: "));
}
