#include "vmm/runner/test_list.h"

#include <catch2/catch.hpp>

namespace vmm::test {
namespace {

using Words = std::vector<std::string>;

std::string ErrorOf(std::string_view text) {
  const auto list = ParseTestList(text, "dir/tests.toml");
  REQUIRE_FALSE(list);
  CHECK(list.error().code == ExitCode::kConfigInvalid);
  return list.error().message;
}

TEST_CASE("A test says its command, its limits and what of the machine is its own", "[test list]") {
  const auto list = ParseTestList(R"(
[[test]]
name = "one"
command = "a | b"
timeout = "30s"
idle_timeout = "500ms"
rootfs = "root"
modules = "/lib/modules/6"
load = ["loop", "fuse"]
kernel = "vmlinuz"
cpus = 2
testdev = true
disk = ["a.img", "/b.img,mode=ro"]
console = { serial2 = "null" }

[[test]]
command = ["sh", "-c", ""]
)",
                                  "dir/tests.toml");
  REQUIRE(list);
  REQUIRE(list->size() == 2);
  const ListedTest& one = list->front();
  CHECK(one.name == "one");
  CHECK(one.command == Words{"sh", "-c", "a | b"});
  CHECK(one.timeout == std::chrono::seconds(30));
  CHECK(one.idle_timeout == std::chrono::milliseconds(500));
  CHECK(one.rootfs == "dir/root");
  CHECK(one.modules == "/lib/modules/6");
  CHECK(one.load == Words{"loop", "fuse"});
  Words settings;
  for (const Override& setting : one.settings) {
    settings.push_back(std::string(setting.key) + "=" + setting.value);
  }
  CHECK(settings == Words{"kernel=dir/vmlinuz", "cpus=2", "testdev=true", "disk=dir/a.img",
                          "disk=/b.img,mode=ro", "console.serial2=null"});
  CHECK(one.settings.front().origin == "one: kernel");
  CHECK(list->back().name == "test 2");
  CHECK(list->back().command == Words{"sh", "-c", ""});
  CHECK_FALSE(list->back().timeout);
}

TEST_CASE("What is wrong in a list of tests is told with its place and the fix", "[test list]") {
  CHECK(ErrorOf("").find("there is no test") != std::string::npos);
  CHECK(ErrorOf("name = 1").starts_with("dir/tests.toml:1:1: 'name' stands outside of a test"));
  CHECK(ErrorOf("test = [1]").find("a test is no table") != std::string::npos);
  CHECK(
      ErrorOf("[[test]]\ncommand = \"\"").starts_with("dir/tests.toml:2:11: the command is empty"));
  CHECK(ErrorOf("[[test]]\ncomand = \"x\"").find("fix: write 'command'") != std::string::npos);
  CHECK(ErrorOf("[[test]]\nmemroy = \"x\"").find("fix: write 'memory'") != std::string::npos);
  CHECK(ErrorOf("[[test]]\ntimeout = \"5\"").starts_with("dir/tests.toml:2:11: "));
  CHECK(ErrorOf("[[test]]\ntimeout = 5").find("a string belongs there") != std::string::npos);
  CHECK(ErrorOf("[[test]]\nname = \"a\\nb\"").find("no line of text") != std::string::npos);
  CHECK(
      ErrorOf("[[test]]\nname = \"a\"\n[[test]]\nname = \"a\"").find("two tests are called 'a'") !=
      std::string::npos);
  CHECK(ErrorOf("[[test]]\ncpus = 1.5").find("takes strings, numbers") != std::string::npos);
  CHECK_FALSE(ErrorOf("[[test").empty());
  CHECK(ReadTestList("/nonexistent/tests.toml").error().code == ExitCode::kFileMissing);
}

}  // namespace
}  // namespace vmm::test
