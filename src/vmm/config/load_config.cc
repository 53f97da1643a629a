#include "vmm/config/load_config.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "vmm/config/config_reader.h"
#include "vmm/config/config_rules.h"
#include "vmm/config/problems.h"

namespace vmm {
namespace {

constexpr size_t kLargestFile = kMiB;
constexpr size_t kLongestName = 64;
constexpr std::string_view kDefaultName = "vm";
constexpr std::string_view kDefaultSuspendFile = "suspend.vmstate";
constexpr std::string_view kDefaultControl = "control.sock";

// The name of a directory as the name of a machine: what is no letter or digit becomes '_'.
std::string NameFromDirectory(const std::filesystem::path& directory) {
  std::error_code ignored;
  std::filesystem::path full = std::filesystem::absolute(directory, ignored).lexically_normal();
  if (!full.has_filename()) full = full.parent_path();
  std::string name = full.filename().string().substr(0, kLongestName);
  for (char& c : name) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (!plain && c != '.' && c != '_' && c != '-') c = '_';
  }
  while (!name.empty() && (name.front() == '.' || name.front() == '-')) name.erase(0, 1);
  return name.empty() ? std::string(kDefaultName) : name;
}

Result<std::string> ReadWhole(const std::filesystem::path& file) {
  const std::string name = file.string();
  const int fd = open(name.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return FailErrno(ExitCode::kFileMissing, fmt::format("can't read {}", name), errno);
  std::string text;
  char chunk[4096];
  ssize_t got = 0;
  do {
    got = read(fd, chunk, sizeof chunk);
    if (got > 0) text.append(chunk, static_cast<size_t>(got));
  } while ((got > 0 && text.size() <= kLargestFile) || (got < 0 && errno == EINTR));
  const int error = errno;
  close(fd);
  if (got < 0) return FailErrno(ExitCode::kIoError, fmt::format("can't read {}", name), error);
  if (text.size() > kLargestFile) {
    return Fail(ExitCode::kConfigInvalid,
                fmt::format("{}:1:1: the file is longer than 1 MiB (it is no vm.toml); fix: name "
                            "the vm.toml of the machine",
                            name));
  }
  return text;
}

void ApplyOverrides(ConfigReader& reader, std::span<const Override> overrides) {
  for (const Override& setting : overrides) reader.ReadOverride(setting);
}

Result<Config> Finish(Config config, const ConfigReader& reader, ConfigProblems& problems,
                      bool check_files) {
  // A key that could not be read would only bring doubtful complaints about combinations.
  if (problems.empty()) CheckCombinations(config, reader, problems);
  if (check_files) CheckFiles(config, reader, problems);
  if (!problems.empty()) return tl::unexpected(problems.ToError());
  return config;
}

}  // namespace

namespace {

// `file`, or the vm.toml in it.
std::filesystem::path ActualFile(const std::filesystem::path& file) {
  std::error_code ignored;
  return std::filesystem::is_directory(file, ignored) ? file / "vm.toml" : file;
}

Result<std::string> ReadConfigFile(const std::filesystem::path& actual) {
  auto text = ReadWhole(actual);
  if (text) return text;
  Error error = std::move(text.error());
  if (error.code == ExitCode::kFileMissing) {
    error.message += "; fix: name an existing vm.toml, or give --kernel FILE without --config";
  } else if (error.code == ExitCode::kNoPermission) {
    error.message += fmt::format("; fix: allow it: chmod a+r {}", actual.string());
  }
  return tl::unexpected(std::move(error));
}

}  // namespace

Result<Config> LoadConfig(const std::filesystem::path& file, std::span<const Override> overrides) {
  const std::filesystem::path actual = ActualFile(file);
  return ReadConfigFile(actual).and_then(
      [&](const std::string& text) { return ParseConfig(text, actual, overrides); });
}

Result<std::filesystem::path> ControlOf(const std::filesystem::path& file) {
  const std::filesystem::path actual = ActualFile(file);
  return ReadConfigFile(actual)
      .and_then([&](const std::string& text) { return ParseConfig(text, actual, {}, false); })
      .map([](const Config& config) { return config.control; });
}

Result<Config> ConfigFromOverrides(std::span<const Override> overrides) {
  Config config;
  config.name = kDefaultName;
  ConfigProblems problems("");
  ConfigReader reader(config, problems, {});
  ApplyOverrides(reader, overrides);
  return Finish(std::move(config), reader, problems, true);
}

Result<Config> ParseConfig(std::string_view text, const std::filesystem::path& file,
                           std::span<const Override> overrides, bool check_files) {
  Config config;
  config.file = file;
  config.directory = file.parent_path();
  config.name = NameFromDirectory(config.directory);
  config.suspend_file = config.directory / kDefaultSuspendFile;
  config.control = config.directory / kDefaultControl;
  ConfigProblems problems(file.string());
  ConfigReader reader(config, problems, config.directory);
  auto root = ParseToml(text);
  if (!root) {
    problems.Add({root.error().at, {}}, ExplainTomlError(root.error().what));
    return tl::unexpected(problems.ToError());
  }
  reader.ReadFile(*root);
  ApplyOverrides(reader, overrides);
  return Finish(std::move(config), reader, problems, check_files);
}

}  // namespace vmm
