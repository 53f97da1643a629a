// Disks as vm.toml and the command line write them.
#include <catch2/catch.hpp>
#include <fstream>

#include "tests/unit/support/temp_dir.h"
#include "vmm/config/load_config.h"

namespace vmm {
namespace {

Result<Config> Parse(const std::string& disks, std::vector<Override> overrides = {}) {
  return ParseConfig("kernel = \"k\"\n" + disks, "/machine/vm.toml", overrides, false);
}

std::string ErrorOf(const std::string& disks, std::vector<Override> overrides = {}) {
  const auto config = Parse(disks, std::move(overrides));
  return config ? "" : config.error().message;
}

}  // namespace

TEST_CASE("A disk is a path, or a table with all its keys", "[config]") {
  const auto config = Parse(
      "disk = [\"root.qcow2\", { path = \"/images/data.img\", mode = \"ro\", format = \"raw\",  "
      "  bus = \"virtio\", serial = \"data-1\", queues = 3, cache = \"writethrough\", "
      "  direct = true, iops = 500, bandwidth = \"10M\" }]");
  REQUIRE(config);
  REQUIRE(config->disks.size() == 2);
  CHECK(config->disks[0] == DiskSpec{.path = "/machine/root.qcow2", .serial = ""});
  CHECK(config->disks[1] == DiskSpec{.path = "/images/data.img",
                                     .mode = DiskMode::kReadOnly,
                                     .format = DiskFormat::kRaw,
                                     .serial = "data-1",
                                     .queues = 3,
                                     .cache = DiskSpec::Cache::kWriteThrough,
                                     .direct = true,
                                     .iops = 500,
                                     .bandwidth = 10 << 20});
}

TEST_CASE("[[disk]] is a list of tables, too", "[config]") {
  const auto config =
      Parse("[[disk]]\npath = \"a\"\nmode = \"snapshot\"\n[[disk]]\npath = \"b\"\n");
  REQUIRE(config);
  REQUIRE(config->disks.size() == 2);
  CHECK(config->disks[0].mode == DiskMode::kSnapshot);
  CHECK(config->disks[1].path == "/machine/b");
}

TEST_CASE("--disk takes the place of the file's disks", "[config]") {
  const auto options = [](std::vector<std::string> values) {
    std::vector<Override> overrides;
    for (std::string& value : values) overrides.push_back({"disk", value, "--disk"});
    return overrides;
  };
  const auto config = Parse("disk = [\"a\", \"b\"]", options({"x,mode=ro,queues=2", "y"}));
  REQUIRE(config);
  REQUIRE(config->disks.size() == 2);
  CHECK(config->disks[0].path == "x");  // from the working directory
  CHECK(config->disks[0].mode == DiskMode::kReadOnly);
  CHECK(config->disks[0].queues == 2);
  CHECK(config->disks[1].path == "y");
  const auto none = Parse("disk = [\"a\"]", options({""}));
  REQUIRE(none);
  CHECK(none->disks.empty());
  CHECK(ErrorOf("", options({"x,mod=ro"})).find("unknown key 'mod' of a disk") !=
        std::string::npos);
  CHECK(ErrorOf("", options({"x,mode"})).find("'mode' of a disk has no value") !=
        std::string::npos);
  CHECK(ErrorOf("", options({"x,mode=rw "})).find("'rw ' is no value") != std::string::npos);
  CHECK(ErrorOf("", options({"x,"})).find("unknown key ''") != std::string::npos);
}

TEST_CASE("What is wrong with a disk is told with place and fix", "[config]") {
  const std::pair<std::string, std::string> cases[] = {
      {"disk = \"a\"",
       "/machine/vm.toml:2:8: 'disk' is a string (it must be a list); fix: write disk = "
       "[\"root.qcow2\"]"},
      {"[disk]\npath = \"a\"", "fix: write [[disk]] instead of [disk]"},
      {"disk = [7]", ":2:9: a disk is an integer (it must be a path or a table)"},
      {"disk = [{ mode = \"ro\" }]", ":2:9: a disk has no path"},
      {"disk = [{ path = \"a\", mod = \"ro\" }]",
       ":2:23: unknown key 'mod' of a disk (it would be ignored); fix: write 'mode'"},
      {"disk = [{ path = \"a\", readonly = true }]", "fix: write 'mode'"},
      {"disk = [{ file = \"a\" }]", "fix: write 'path'"},
      {"disk = [{ path = \"a\", xyzzy = 1 }]", "fix: remove it; docs/config.md lists them"},
      {"disk = [{ path = 1 }]", "'disk.path' is an integer"},
      {"disk = [{ path = \"a\", mode = \"readonly\" }]", "'readonly' is no value of 'disk.mode'"},
      {"disk = [{ path = \"a\", bus = \"ide\" }]",
       "disk.bus = \"ide\" is not available in this version of vmm"},
      {"disk = [{ path = \"a\", format = \"vmdk\" }]", "is not available in this version"},
      {"disk = [{ path = \"a\", queues = 0 }]", "(it must be from 1 to 8); fix: write 1"},
      {"disk = [{ path = \"a\", queues = 9 }]", "(it must be from 1 to 8); fix: write 8"},
      {"disk = [{ path = \"a\", serial = \"123456789012345678901\" }]",
       "'disk.serial' has 21 bytes (the most is 20)"},
      {"disk = [{ path = \"a\", iops = 0 }]", "(it must be from 1 to"},
      {"disk = [{ path = \"a\", bandwidth = 100 }]", "'disk.bandwidth' is an integer"},
      {"disk = [\"a\", \"./a\"]", "disk0 and disk1 are the same image (one of them writes to it)"},
      {"disk = [\"a\", { path = \"a\", mode = \"ro\" }]", "are the same image"},
      {"deterministic = true\ndisk = [\"a\"]", ":3:8: disk does not go with deterministic = true"},
  };
  for (const auto& [text, expected] : cases) {
    INFO(text);
    CHECK_THAT(ErrorOf(text), Catch::Contains(expected));
  }
  CHECK(Parse("disk = [{ path = \"a\", mode = \"ro\" }, { path = \"a\", mode = \"snapshot\" }]"));
  CHECK(Parse("disk = []"));
  std::string many = "disk = [";
  for (int i = 0; i < 16; ++i) many += "\"d" + std::to_string(i) + "\", ";
  CHECK(Parse(many + "]"));
  CHECK_THAT(ErrorOf(many + "\"x\", \"y\"]"), Catch::Contains("there are more than 16 disks"));
}

TEST_CASE("An image must be there, and a file", "[config]") {
  const TempDir directory;
  const std::string at = directory.path().string();
  std::ofstream(at + "/k") << "kernel";
  const auto error = [&](const std::string& disk) {
    const auto config =
        ParseConfig("kernel = \"k\"\ndisk = [\"" + disk + "\"]", at + "/vm.toml", {});
    return config ? Error{ExitCode::kSuccess, ""} : config.error();
  };
  CHECK(error("none").code == ExitCode::kFileMissing);
  CHECK_THAT(error("none").message, Catch::Contains("vmm disk create " + at + "/none 10G"));
  CHECK(error(".").code == ExitCode::kFileMissing);
  CHECK_THAT(error(".").message, Catch::Contains("is no file"));
  CHECK(error("k").code == ExitCode::kSuccess);
}

}  // namespace vmm
