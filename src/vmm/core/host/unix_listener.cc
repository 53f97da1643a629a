#include "vmm/core/host/unix_listener.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace vmm {
namespace {

UniqueFd NewSocket() {
  return UniqueFd(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

sockaddr_un Address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

const sockaddr* Generic(const sockaddr_un& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

// Keeps others that start at the same time away while a stale socket is replaced. Nobody holds it
// for long; if somebody does, it is better to go on than to wait.
class DirectoryLock {
 public:
  explicit DirectoryLock(const std::string& path) {
    const size_t slash = path.rfind('/');
    const std::string directory = slash == std::string::npos ? "." : path.substr(0, slash + 1);
    fd_ = UniqueFd(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    for (int tries = 0; fd_ && flock(fd_.get(), LOCK_EX | LOCK_NB) != 0 && tries < 200; ++tries) {
      poll(nullptr, 0, 5);
    }
  }

 private:
  UniqueFd fd_;  // closing it unlocks
};

// Is somebody there who would accept a connection?
bool Served(const sockaddr_un& address) {
  const UniqueFd probe = NewSocket();
  return !probe || connect(probe.get(), Generic(address), sizeof address) == 0 ||
         errno != ECONNREFUSED;
}

}  // namespace

Result<UnixListener> ListenUnix(const std::string& path, ExitCode code) {
  constexpr size_t kLongest = sizeof(sockaddr_un::sun_path) - 1;
  if (path.empty() || path.size() > kLongest) {
    return Fail(ExitCode::kConfigInvalid,
                fmt::format("{} has {} bytes; the path of a socket has 1 to {}; use a shorter "
                            "directory, or a path relative to the working directory",
                            path.empty() ? "the path" : path, path.size(), kLongest));
  }
  const auto fail = [&](std::string_view why, std::string_view remedy) {
    return Fail(code, fmt::format("can't listen on {}: {}; {}", path, why, remedy));
  };
  UniqueFd fd = NewSocket();
  if (!fd) return fail(std::strerror(errno), "raise the limit of open files");
  fchmod(fd.get(), 0600);  // what bind() gives the file
  const sockaddr_un address = Address(path);
  CharExitGuard file;
  {
    const DirectoryLock lock(path);
    int error = bind(fd.get(), Generic(address), sizeof address) == 0 ? 0 : errno;
    if (error == EADDRINUSE) {
      struct stat status{};
      if (lstat(path.c_str(), &status) == 0 && !S_ISSOCK(status.st_mode)) {
        return fail("a file that is not a socket is there", "remove it or name another path");
      }
      if (Served(address)) {
        return fail("another program serves it", "stop that one or name another path");
      }
      unlink(path.c_str());
      error = bind(fd.get(), Generic(address), sizeof address) == 0 ? 0 : errno;
    }
    if (error != 0) {
      return fail(std::strerror(error), error == ENOENT || error == ENOTDIR
                                            ? "make the directory first, or name another path"
                                            : "name a path where this user may make a socket");
    }
    auto guard = CharExitGuard::RemoveSocket(path);
    if (!guard) return fail(guard.error().message, "name another path");
    file = std::move(*guard);
    if (listen(fd.get(), 8) != 0) return fail(std::strerror(errno), "name another path");
  }
  return UnixListener{std::move(fd), std::move(file)};
}

}  // namespace vmm
