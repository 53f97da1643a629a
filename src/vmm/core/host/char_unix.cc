#include "vmm/core/host/char_unix.h"

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
#include <string_view>

#include "vmm/core/base/log.h"

namespace vmm {
namespace {

constexpr std::string_view kTaken = "vmm: another client has this console; close it first\r\n";

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

Result<std::unique_ptr<CharUnix>> CharUnix::Open(EventLoop& loop, std::string path,
                                                 std::string name) {
  constexpr size_t kLongest = sizeof(sockaddr_un::sun_path) - 1;
  if (path.empty() || path.size() > kLongest) {
    return Fail(ExitCode::kConfigInvalid,
                fmt::format("{} has {} bytes; the path of a socket has 1 to {}; use a shorter "
                            "directory, or a path relative to the working directory",
                            path.empty() ? "the path" : path, path.size(), kLongest));
  }
  std::unique_ptr<CharUnix> backend(new CharUnix(loop, std::move(path), std::move(name)));
  CharUnix* const self = backend.get();
  auto output = CharOutput::Create(loop, {[self](int) { self->DropClient(); }});
  if (!output) return tl::unexpected(std::move(output.error()));
  self->output_ = std::move(*output);
  auto input = CharInput::Create(loop, [self](CharInput::Event event) {
    if (event == CharInput::Event::kHangUp) self->DropClient();
  });
  if (!input) return tl::unexpected(std::move(input.error()));
  self->input_ = std::move(*input);
  if (auto listening = self->Listen(); !listening) {
    return tl::unexpected(std::move(listening.error()));
  }
  return backend;
}

Result<void> CharUnix::Listen() {
  const auto fail = [&](std::string_view why, std::string_view remedy) {
    return Fail(ExitCode::kConsoleLost,
                fmt::format("can't listen on {}: {}; {}", path_, why, remedy));
  };
  listener_ = NewSocket();
  if (!listener_) return fail(std::strerror(errno), "raise the limit of open files");
  fchmod(listener_.get(), 0600);  // what bind() gives the file
  const sockaddr_un address = Address(path_);
  {
    const DirectoryLock lock(path_);
    int error = bind(listener_.get(), Generic(address), sizeof address) == 0 ? 0 : errno;
    if (error == EADDRINUSE) {
      struct stat status{};
      if (lstat(path_.c_str(), &status) == 0 && !S_ISSOCK(status.st_mode)) {
        return fail("a file that is not a socket is there", "remove it or name another path");
      }
      if (Served(address)) {
        return fail("another program serves it", "stop that one or name another path");
      }
      unlink(path_.c_str());
      error = bind(listener_.get(), Generic(address), sizeof address) == 0 ? 0 : errno;
    }
    if (error != 0) {
      return fail(std::strerror(error), error == ENOENT || error == ENOTDIR
                                            ? "make the directory first, or name another path"
                                            : "name a path where this user may make a socket");
    }
    auto guard = CharExitGuard::RemoveSocket(path_);
    if (!guard) return fail(guard.error().message, "name another path");
    socket_file_ = std::move(*guard);
    if (listen(listener_.get(), 8) != 0) return fail(std::strerror(errno), "name another path");
  }
  return loop_.AddFd(listener_.get(), EPOLLIN, [this](uint32_t) { OnConnection(); });
}

Result<void> CharUnix::Finish() {
  output_->Finish();
  return {};  // it writes to readers only
}

CharUnix::~CharUnix() {
  if (output_) output_->Finish();
  if (listener_) loop_.RemoveFd(listener_.get());
}

void CharUnix::OnConnection() {
  UniqueFd client(accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (!client) {
    if (errno == EMFILE || errno == ENFILE) {
      // It would ask again at once, for ever: nobody can attach to this console any more.
      loop_.RemoveFd(listener_.get());
      Log(LogLevel::kWarning, fmt::format("{}: no descriptor left for a client of {}; no more are "
                                          "accepted",
                                          name_, path_));
    }
    return;
  }
  if (ClientAlive()) {
    send(client.get(), kTaken.data(), kTaken.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    return;
  }
  DropClient();
  UniqueFd for_input(fcntl(client.get(), F_DUPFD_CLOEXEC, 3));
  if (!for_input) return;
  client_ = client.get();
  input_->Attach(std::move(for_input));
  output_->Attach(CharSink::Socket(std::move(client)));
}

// One that has gone is not always heard of: its input is not watched while the guest reads none.
bool CharUnix::ClientAlive() {
  if (client_ < 0) return false;
  pollfd state{.fd = client_, .events = 0, .revents = 0};
  return poll(&state, 1, 0) == 0;
}

void CharUnix::DropClient() {
  if (client_ < 0) return;
  client_ = -1;
  output_->Detach();
  input_->Detach();
}

}  // namespace vmm
