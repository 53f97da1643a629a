#include "vmm/core/host/char_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
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

}  // namespace

Result<std::unique_ptr<CharFile>> CharFile::Open(EventLoop& loop, const Options& options) {
  const char* path = options.path.c_str();
  const auto fail = [&](int error) {
    return Fail(ExitCode::kConsoleLost, fmt::format("can't write to {}: {}; {}", options.path,
                                                    std::strerror(error), Remedy(error)));
  };
  struct stat status{};
  const bool fifo = stat(path, &status) == 0 && S_ISFIFO(status.st_mode);
  // A FIFO opened for both sides waits for no reader and outlives each of them.
  int flags = (fifo ? O_RDWR : O_WRONLY | O_CREAT | O_APPEND) | O_NONBLOCK | O_CLOEXEC | O_NOCTTY;
  if (options.truncate && !fifo) flags |= O_TRUNC;
  UniqueFd fd(open(path, flags, 0644));
  if (!fd) return fail(errno);

  auto output = CharOutput::Create(loop, CharOutput::LogHooks(options.name, options.path));
  if (!output) return tl::unexpected(std::move(output.error()));
  (*output)->Attach(CharSink::Own(std::move(fd)));
  return std::unique_ptr<CharFile>(new CharFile(options.path, std::move(*output)));
}

}  // namespace vmm
