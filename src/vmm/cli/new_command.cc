#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <vector>

#include "vmm/cli/commands.h"
#include "vmm/cli/disk_parts.h"
#include "vmm/cli/output.h"

namespace vmm {
namespace {

namespace fs = std::filesystem;

// The directory that is made, and what of it goes again unless all went well: nothing that was
// there before.
class NewDirectory {
 public:
  explicit NewDirectory(fs::path path) : path_(std::move(path)) {}
  ~NewDirectory() {
    std::error_code ignored;
    for (const fs::path& made : made_) fs::remove(made, ignored);
    if (is_ours_) fs::remove(path_, ignored);
  }

  Result<void> Make() {
    std::error_code error;
    is_ours_ = fs::create_directories(path_, error);
    if (!error && !is_ours_ && !fs::is_empty(path_, error) && !error) {
      return Fail(ExitCode::kCannotCreate,
                  fmt::format("{} has files in it already; fix: another name", path_.string()));
    }
    return Made(path_, error.value());
  }
  // The place of a file that is about to be made.
  fs::path Add(const char* name) {
    made_.push_back(path_ / name);
    return made_.back();
  }
  Result<void> Copy(const fs::path& from, const char* name) {
    std::error_code error;
    const fs::path to = Add(name);
    fs::copy_file(from, to, error);
    if (!error) return {};
    return FailErrno(ExitCode::kCannotCreate,
                     fmt::format("can't copy {} to {}", from.string(), to.string()), error.value());
  }
  Result<void> MakeFolder(const char* name) {
    std::error_code error;
    const fs::path path = Add(name);
    fs::create_directory(path, error);
    return Made(path, error.value());
  }
  Result<void> Write(const char* name, const std::string& text) {
    const fs::path path = Add(name);
    std::ofstream file(path, std::ios::binary);
    file << text;
    file.close();
    return Made(path, file ? 0 : errno != 0 ? errno : EIO);
  }
  void Keep() {
    made_.clear();
    is_ours_ = false;
  }
  const fs::path& path() const { return path_; }

 private:
  static Result<void> Made(const fs::path& path, int error) {
    if (error == 0) return {};
    return Fail(ExitCode::kCannotCreate,
                fmt::format("can't make {} ({}); fix: another place, or room there", path.string(),
                            std::strerror(error)));
  }

  const fs::path path_;
  std::vector<fs::path> made_;
  bool is_ours_ = false;
};

constexpr const char* kConfig = "vm.toml";
constexpr const char* kKernel = "vmlinuz";
constexpr const char* kInitrd = "initrd";
constexpr const char* kDisk = "disk.qcow2";
constexpr const char* kLogs = "logs";

bool HasDisk(const NewOptions& options) {
  return !options.disk.empty() || !options.image.empty();
}

// As a basic string of TOML.
std::string Quoted(const std::string& text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
      quoted += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    else
      quoted += c;
  }
  return quoted + '"';
}

// As one word of a shell's.
std::string ShellWord(const std::string& text) {
  constexpr std::string_view kPlain =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789%+,-./:=@_";
  if (!text.empty() && text.find_first_not_of(kPlain) == std::string::npos) return text;
  std::string word = "'";
  for (const char c : text) word += c == '\'' ? "'\\''" : std::string(1, c);
  return word + "'";
}

std::string ConfigText(const NewOptions& options) {
  std::string text = fmt::format("kernel = \"{}\"\n", kKernel);
  if (!options.initrd.empty()) text += fmt::format("initrd = \"{}\"\n", kInitrd);
  text += fmt::format("append = {}\ncpus = {}\nmemory = {}\n", Quoted(options.append), options.cpus,
                      Quoted(options.memory));
  if (HasDisk(options)) text += fmt::format("disk = [\"{}\"]\n", kDisk);
  if (!options.no_net) text += "net = [\"user\"]\n";
  return text + fmt::format("logs = \"{}\"\n", kLogs);
}

Result<void> MakeDisk(const NewOptions& options, NewDirectory& directory) {
  if (!HasDisk(options)) return {};
  DiskOptions disk;
  disk.quiet = options.quiet;
  const fs::path place = directory.Add(kDisk);
  if (options.image.empty()) {
    disk.file = place;
    disk.size = options.disk;
    return CreateDisk(disk);
  }
  disk.file = options.image;
  disk.target = place;
  return ConvertDisk(disk);
}

// Whether a machine can be made of the options, before anything is.
Result<void> Check(const NewOptions& options) {
  std::vector<Override> settings = {{"kernel", options.kernel.string(), "--kernel"},
                                    {"append", options.append, "--append"},
                                    {"cpus", options.cpus, "--cpus"},
                                    {"memory", options.memory, "--memory"}};
  if (!options.initrd.empty()) settings.push_back({"initrd", options.initrd.string(), "--initrd"});
  auto config = ConfigFromOverrides(settings);
  if (!config) return tl::unexpected(std::move(config.error()));
  if (options.disk.empty()) return {};
  return ParseDiskSize(options.disk).map([](uint64_t) {}).map_error([](Error error) {
    return std::move(error).WithContext("--disk");
  });
}

Result<void> Make(const NewOptions& options) {
  if (auto checked = Check(options); !checked) return checked;
  NewDirectory directory(options.directory);
  auto made = directory.Make();
  if (made) made = directory.Copy(options.kernel, kKernel);
  if (made && !options.initrd.empty()) made = directory.Copy(options.initrd, kInitrd);
  if (made) made = MakeDisk(options, directory);
  if (made) made = directory.MakeFolder(kLogs);
  if (made) made = directory.Write(kConfig, ConfigText(options));
  if (made) directory.Keep();
  return made;
}

}  // namespace

RunOutcome NewCommand(const CommandLine& line) {
  if (auto made = Make(line.making); !made) return OutcomeOf(std::move(made));
  return OutcomeOf(PrintText(fmt::format("made; it runs with: {} run {}\n", ShellWord(line.program),
                                         ShellWord(line.making.directory.string()))));
}

}  // namespace vmm
