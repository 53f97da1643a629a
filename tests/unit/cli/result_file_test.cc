#include "vmm/cli/result_file.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/unit/support/temp_dir.h"

namespace fs = std::filesystem;

namespace {

std::string ReadAll(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

vmm::RunOutcome Panic() {
  vmm::RunOutcome outcome;
  outcome.code = vmm::ExitCode::kGuestPanic;
  outcome.reason = "the guest panicked: \"Kernel panic\" \xff";
  outcome.engine = "kvm";
  outcome.engine_reason = "KVM works";
  outcome.uptime_ms = 1234;
  outcome.console_tail = {"line 1", "line 2"};
  outcome.guest_value = 7;
  return outcome;
}

}  // namespace

TEST_CASE("the result says code, name, reason, engine, time and the guest's value", "[cli]") {
  const auto json = nlohmann::json::parse(vmm::ToJson(Panic()));
  CHECK(json["exit_code"] == 81);
  CHECK(json["exit_name"] == "GuestPanic");
  CHECK(json["engine"] == "kvm");
  CHECK(json["engine_reason"] == "KVM works");
  CHECK(json["uptime_ms"] == 1234);
  CHECK(json["console_tail"] == nlohmann::json({"line 1", "line 2"}));
  CHECK(json["guest_value"] == 7);
  // A byte that is not UTF-8 becomes the replacement character.
  CHECK(json["reason"] == "the guest panicked: \"Kernel panic\" \xEF\xBF\xBD");
}

TEST_CASE("what is not known is null", "[cli]") {
  vmm::RunOutcome outcome;
  outcome.code = vmm::ExitCode::kUsage;
  const auto json = nlohmann::json::parse(vmm::ToJson(outcome));
  CHECK(json["engine"].is_null());
  CHECK(json["engine_reason"].is_null());
  CHECK(json["guest_value"].is_null());
  CHECK(json["console_tail"].empty());
}

TEST_CASE("a result replaces the old one at once and leaves nothing else", "[cli]") {
  TempDir temp;
  const fs::path path = temp.Write("result.json", "old");
  const auto file = vmm::ResultFile::Prepare(path);
  REQUIRE(file);
  CHECK_FALSE(fs::exists(path));  // an old result can't be taken for this run's
  REQUIRE(file->Write(Panic()));
  CHECK(ReadAll(path) == vmm::ToJson(Panic()));
  CHECK(std::distance(fs::directory_iterator(temp.path()), fs::directory_iterator()) == 1);
}

TEST_CASE("a result that can't be written is refused before the run", "[cli]") {
  TempDir temp;
  const auto no_folder = vmm::ResultFile::Prepare(temp.path() / "none/result.json");
  REQUIRE_FALSE(no_folder);
  CHECK(no_folder.error().code == vmm::ExitCode::kCannotCreate);
  const auto folder = vmm::ResultFile::Prepare(temp.path());
  REQUIRE_FALSE(folder);
  CHECK(folder.error().code == vmm::ExitCode::kCannotCreate);
}

TEST_CASE("a result that goes to a device does not replace the device", "[cli]") {
  const auto file = vmm::ResultFile::Prepare("/dev/null");
  REQUIRE(file);
  CHECK(file->Write(Panic()));
  CHECK(fs::is_character_file("/dev/null"));
  const auto full = vmm::ResultFile::Prepare("/dev/full");
  REQUIRE(full);
  CHECK_FALSE(full->Write(Panic()));
}
