#include "vmm/core/host/char_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <string_view>

namespace vmm {
namespace {

std::string_view Remedy(int error) {
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return "make the directory first, or name another file";
    case EACCES:
    case EPERM:
      return "give this user the right to write there, or name another file";
    case EISDIR:
      return "name a file in it";
    case EROFS:
      return "name a file on a file system that can be written";
    case ENOSPC:
    case EDQUOT:
      return "make room on that file system";
    default:
      return "name another file, or use \"null\" for no console";
  }
}

// Keeps a file below its limit, whatever is written to it.
class Limit {
 public:
  Limit(std::string path, uint64_t limit, uint64_t size)
      : path_(std::move(path)), limit_(limit), size_(size) {}

  void operator()(int fd, size_t bytes) {
    size_ += bytes;
    if (size_ < limit_) return;
    size_ = 0;
    const bool is_kept = rename(path_.c_str(), OlderFile(path_).c_str()) == 0;
    const UniqueFd next(is_kept ? open(path_.c_str(), kFlags, 0644) : -1);
    // The number stays, so that nobody else need know.
    if (next && dup3(next.get(), fd, O_CLOEXEC) >= 0) return;
    if (ftruncate(fd, 0) != 0) return;  // better little than ever more
  }

  static constexpr int kFlags = O_WRONLY | O_CREAT | O_APPEND | O_NONBLOCK | O_CLOEXEC | O_NOCTTY;

 private:
  const std::string path_;
  const uint64_t limit_;
  uint64_t size_;
};

}  // namespace

std::string OlderFile(const std::string& path) {
  const std::filesystem::path file(path);
  return (file.parent_path() / file.stem()).string() + ".1" + file.extension().string();
}

Result<std::unique_ptr<CharFile>> CharFile::Open(EventLoop& loop, const Options& options) {
  const char* path = options.path.c_str();
  const auto fail = [&](int error) {
    return Fail(ExitCode::kConsoleLost, fmt::format("can't write to {}: {}; {}", options.path,
                                                    std::strerror(error), Remedy(error)));
  };
  struct stat status{};
  const bool fifo = stat(path, &status) == 0 && S_ISFIFO(status.st_mode);
  // A FIFO opened for both sides waits for no reader and outlives each of them.
  int flags = fifo ? O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOCTTY : Limit::kFlags;
  if (options.truncate && !fifo) flags |= O_TRUNC;
  UniqueFd fd(open(path, flags, 0644));
  if (!fd) return fail(errno);

  auto output = CharOutput::Create(loop, CharOutput::LogHooks(options.name, options.path));
  if (!output) return tl::unexpected(std::move(output.error()));
  CharSink::Written written;
  if (options.limit != 0 && fstat(fd.get(), &status) == 0 && S_ISREG(status.st_mode)) {
    written = Limit(options.path, options.limit, static_cast<uint64_t>(status.st_size));
  }
  (*output)->Attach(CharSink::Own(std::move(fd), std::move(written)));
  return std::unique_ptr<CharFile>(new CharFile(options.path, std::move(*output)));
}

}  // namespace vmm
