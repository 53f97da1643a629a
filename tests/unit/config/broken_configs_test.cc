// Every file in tests/fixtures/broken-configs says in its first line how vmm must answer:
//   # expect CODE: LINE:COLUMN: what (why); fix: remedy | LINE:COLUMN: ...
#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <vector>

#include "tests/unit/support/source_root.h"
#include "vmm/config/load_config.h"

namespace {

namespace fs = std::filesystem;

const fs::path kFixtures = SourceRoot() / "tests/fixtures/broken-configs";

std::vector<fs::path> Fixtures() {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(kFixtures)) {
    if (entry.path().extension() == ".toml") files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

std::string Replace(std::string text, const std::string& from, const std::string& to) {
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
  return text;
}

}  // namespace

TEST_CASE("every broken config is answered with its place, reason and fix", "[config]") {
  const std::vector<fs::path> files = Fixtures();
  REQUIRE(files.size() >= 30);
  for (const fs::path& file : files) {
    INFO(file.filename().string());
    std::string first_line;
    std::getline(std::ifstream(file), first_line);
    const auto config = vmm::LoadConfig(file);
    REQUIRE_FALSE(config);
    // Messages name the file, and files next to it, by the path that was given.
    std::string message = Replace(config.error().message, file.string() + ":", "");
    message = Replace(message, kFixtures.string() + "/", "");
    CHECK("# expect " + std::to_string(static_cast<int>(config.error().code)) + ": " +
              Replace(message, "\n", " | ") ==
          first_line);
    CHECK(message.find("; fix: ") != std::string::npos);
  }
}

TEST_CASE("every line of an error starts with the file as the user named it", "[config]") {
  const fs::path file = kFixtures / "many-problems.toml";
  const auto config = vmm::LoadConfig(file);
  REQUIRE_FALSE(config);
  std::istringstream lines(config.error().message);
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    CHECK(line.rfind(file.string() + ":", 0) == 0);
  }
  CHECK(count == 4);
}
