// Shared directories as vm.toml and the command line write them.
#include <catch2/catch.hpp>

#include "vmm/config/load_config.h"

namespace vmm {
namespace {

Result<Config> Parse(const std::string& text, std::vector<Override> overrides = {}) {
  return ParseConfig("kernel = \"k\"\n" + text, "/machine/vm.toml", overrides, false);
}

std::string ErrorOf(const std::string& text, std::vector<Override> overrides = {}) {
  const auto config = Parse(text, std::move(overrides));
  return config ? "" : config.error().message;
}

}  // namespace

TEST_CASE("A shared directory is a path, or a table with all its keys", "[config]") {
  const auto config = Parse(
      "share = [\"files\", { path = \"/srv\", tag = \"src\", mode = \"ro\", cache = \"long\", "
      "setuid = true, users = [\"0:1000\", \"1000:100000:5\"], groups = \"0:100\" }]");
  REQUIRE(config);
  REQUIRE(config->shares.size() == 2);
  ShareSpec first;
  first.path = "/machine/files";
  first.tag = "share0";
  CHECK(config->shares[0] == first);
  ShareSpec second;
  second.path = "/srv";
  second.tag = "src";
  second.mode = ShareSpec::Mode::kReadOnly;
  second.cache = ShareSpec::Cache::kLong;
  second.setuid = true;
  second.users = {{0, 1000, 1}, {1000, 100000, 5}};
  second.groups = {{0, 100, 1}};
  CHECK(config->shares[1] == second);
}

TEST_CASE("--share takes the place of the file's directories", "[config]") {
  const auto config =
      Parse("share = [\"a\", \"b\", \"c\"]", {{"share", "x,mode=ro,users=0:5,users=1:6", "--share"},
                                              {"share", "y,cache=short", "--share"}});
  REQUIRE(config);
  REQUIRE(config->shares.size() == 2);
  CHECK(config->shares[0].path == "x");
  CHECK(config->shares[0].users.size() == 2);
  CHECK(config->shares[1].tag == "share1");
  CHECK(config->shares[1].cache == ShareSpec::Cache::kShort);
  CHECK(Parse("share = [\"a\"]", {{"share", "", "--share"}})->shares.empty());
}

TEST_CASE("Each fault of a shared directory is told with its place and remedy", "[config]") {
  const auto at = [](const std::string& text) { return "/machine/vm.toml:2:" + text; };
  CHECK(ErrorOf("share = \"files\"") ==
        at("9: 'share' is a string (it must be a list); fix: write share = [\"files\"]"));
  CHECK(ErrorOf("share = [{ tag = \"a\" }]") ==
        at("10: a shared directory has no path (it is the directory); fix: write path = "
           "\"files\""));
  CHECK(ErrorOf("share = [{ path = \"a\", readonly = true }]") ==
        at("24: unknown key 'readonly' of a shared directory (it would be ignored); fix: write "
           "'mode'"));
  CHECK(ErrorOf("share = [{ path = \"a\", tag = \"\" }]") ==
        at("30: 'share.tag' is empty (the guest mounts it by its tag); fix: write tag = "
           "\"files\", or leave it out"));
  CHECK(ErrorOf("share = [{ path = \"a\", tag = \"" + std::string(37, 'x') + "\" }]") ==
        at("30: 'share.tag' has 37 bytes (the most is 36); fix: write a shorter one"));
  CHECK(ErrorOf("share = [\"a\", { path = \"b\", tag = \"share0\" }]")
            .find("two shared directories have the tag \"share0\" (the guest mounts them by it); "
                  "fix: write another tag") != std::string::npos);
  for (const char* ids : {"0", "0:1:0", "a:b", "0:1:2:3", "4294967295:0", "0:4294967294:2", ":", "",
                          "-1:0", "0:1K"}) {
    CHECK(ErrorOf("share = [{ path = \"a\", users = \"" + std::string(ids) + "\" }]")
              .find("fix: write some such as \"0:1000\"") != std::string::npos);
  }
  CHECK(ErrorOf("share = [{ path = \"a\", groups = [\"0:10:5\", \"4:20\"] }]")
            .find("groups \"0:10:5\" and \"4:20:1\" overlap (an id would have two meanings)") !=
        std::string::npos);
  CHECK(ErrorOf("share = [{ path = \"a\", users = [\"0:10:5\", \"9:14\"] }]").find("overlap") !=
        std::string::npos);
  CHECK(ErrorOf("deterministic = true\nshare = [\"a\"]")
            .find("share does not go with deterministic = true") != std::string::npos);
  std::string many = "share = [";
  for (int i = 0; i < 9; ++i) many += "\"a\",";
  CHECK(ErrorOf(many + "]").find("there are more than 8 shared directories") != std::string::npos);
}

TEST_CASE("A directory that is not there, or is none, is told", "[config]") {
  const auto load = [](const std::string& share) {
    const auto config = ParseConfig("kernel = \"/dev/null\"\nshare = [\"" + share + "\"]",
                                    "/machine/vm.toml", {}, true);
    return config ? std::string() : config.error().message;
  };
  CHECK(load("/nowhere/at/all").find("the shared directory /nowhere/at/all does not exist") !=
        std::string::npos);
  CHECK(load("/dev/null")
            .find("/dev/null is no directory (only directories are shared); fix: name "
                  "the directory that it is in") != std::string::npos);
}

}  // namespace vmm
