#include "vmm/cli/result_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <nlohmann/json.hpp>

#include "vmm/core/host/unique_fd.h"

namespace vmm {
namespace {

std::filesystem::path FolderOf(const std::filesystem::path& path) {
  return path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
}

tl::unexpected<Error> CantWrite(const std::filesystem::path& path, int error) {
  // A folder that is missing is no missing input.
  Error failure = FailErrno(ExitCode::kCannotCreate,
                            fmt::format("can't write the result to {}", path.string()), error)
                      .value();
  if (failure.code == ExitCode::kFileMissing) failure.code = ExitCode::kCannotCreate;
  return tl::unexpected(std::move(failure));
}

// 0, or errno.
int WriteAll(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t wrote = write(fd, text.data(), text.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return errno;
    text.remove_prefix(static_cast<size_t>(wrote));
  }
  return 0;
}

}  // namespace

std::string ToJson(const RunOutcome& outcome) {
  nlohmann::ordered_json json;
  json["exit_code"] = ExitStatus(outcome);
  json["exit_name"] = std::string(Name(outcome.code));
  json["reason"] = outcome.reason;
  json["engine"] = nullptr;
  json["engine_reason"] = nullptr;
  if (!outcome.engine.empty()) {
    json["engine"] = outcome.engine;
    json["engine_reason"] = outcome.engine_reason;
  }
  json["uptime_ms"] = outcome.uptime_ms;
  json["console_tail"] = outcome.console_tail;
  json["guest_value"] = nullptr;
  if (outcome.guest_value) json["guest_value"] = *outcome.guest_value;
  if (!outcome.tests.empty()) json["tests"] = nlohmann::ordered_json::parse(outcome.tests);
  // Paths and what a guest printed need not be UTF-8.
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

Result<ResultFile> ResultFile::Prepare(const std::filesystem::path& path) {
  struct stat status{};
  if (lstat(path.c_str(), &status) == 0) {
    if (S_ISDIR(status.st_mode)) return CantWrite(path, EISDIR);
    if (S_ISREG(status.st_mode) && unlink(path.c_str()) != 0) return CantWrite(path, errno);
    if (!S_ISREG(status.st_mode)) return ResultFile(path);
  }
  if (access(FolderOf(path).c_str(), W_OK | X_OK) != 0) return CantWrite(path, errno);
  return ResultFile(path);
}

Result<void> ResultFile::WriteText(std::string_view text) const {
  struct stat status{};
  if (lstat(path_.c_str(), &status) == 0 && !S_ISREG(status.st_mode)) {
    const UniqueFd fd(open(path_.c_str(), O_WRONLY | O_CLOEXEC));
    if (!fd) return CantWrite(path_, errno);
    if (const int error = WriteAll(fd.get(), text); error != 0) return CantWrite(path_, error);
    return {};
  }
  // Next to its place, so that rename(2) puts it there in one step.
  const std::string temporary =
      FolderOf(path_) / fmt::format(".{}.{}.tmp", path_.filename().string(), getpid());
  unlink(temporary.c_str());  // of a process that had this number and was killed
  const UniqueFd fd(open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  if (!fd) return CantWrite(path_, errno);
  int error = WriteAll(fd.get(), text);
  if (error == 0 && rename(temporary.c_str(), path_.c_str()) != 0) error = errno;
  if (error == 0) return {};
  unlink(temporary.c_str());
  return CantWrite(path_, error);
}

}  // namespace vmm
