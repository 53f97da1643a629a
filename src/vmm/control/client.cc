#include "vmm/control/client.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

namespace vmm::control {
namespace {

constexpr size_t kMostAnswer = size_t{4} << 20;  // bytes of a line
constexpr std::chrono::milliseconds kForEver{-1};

UniqueFd ProcessBehind(int fd) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 || peer.pid <= 0) return {};
  return UniqueFd(static_cast<int>(syscall(SYS_pidfd_open, peer.pid, 0)));
}

// "" when it is a greeting that this program understands, else why not.
std::string WhyNoGreeting(const std::string& line) {
  const auto json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return "what answers there is no machine";
  if (const auto error = json.find("error"); error != json.end() && error->is_object()) {
    return error->value("message", "it does not say why");
  }
  const auto vmm = json.find("vmm");
  if (vmm == json.end() || !vmm->is_object()) return "what answers there is no machine";
  const auto protocol = vmm->find("protocol");
  if (protocol != vmm->end() && *protocol == kProtocol) return "";
  return "it speaks another version of the protocol; use the vmm that runs it";
}

}  // namespace

Result<Client> Client::Connect(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return Fail(
        ExitCode::kConfigInvalid,
        fmt::format("{} has {} bytes; the path of a socket has 1 to {}; use a shorter "
                    "directory, or a path relative to the working directory",
                    path.empty() ? "the path" : path, path.size(), sizeof address.sun_path - 1));
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  Client client(UniqueFd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)));
  if (!client.fd_) return FailErrno(ExitCode::kOsError, "can't make a socket", errno);
  if (connect(client.fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    const int error = errno;
    if (error == ENOENT || error == ECONNREFUSED || error == ENOTDIR) {
      return Fail(ExitCode::kUnavailable, fmt::format("no machine runs behind {}", path));
    }
    return FailErrno(ExitCode::kUnavailable, fmt::format("can't connect to {}", path), error);
  }
  client.process_ = ProcessBehind(client.fd_.get());
  auto greeting = client.ReadLine(kPatience);
  if (!greeting) return tl::unexpected(std::move(greeting.error()).WithContext(path));
  if (const std::string why = WhyNoGreeting(*greeting); !why.empty()) {
    return Fail(ExitCode::kUnavailable, fmt::format("{}: {}", path, why));
  }
  return client;
}

Result<std::string> Client::ReadLine(std::chrono::milliseconds patience) {
  for (;;) {
    if (const size_t end = input_.find('\n'); end != std::string::npos) {
      std::string line = input_.substr(0, end);
      input_.erase(0, end + 1);
      return line;
    }
    if (input_.size() > kMostAnswer) return Fail(ExitCode::kIoError, "the answer has no end");
    pollfd wait{.fd = fd_.get(), .events = POLLIN, .revents = 0};
    const int ready = poll(&wait, 1, static_cast<int>(patience.count()));
    if (ready < 0 && errno == EINTR) continue;
    if (ready == 0) {
      return Fail(ExitCode::kUnavailable,
                  fmt::format("the machine has not answered within {} s", patience.count() / 1000));
    }
    char bytes[4096];
    const ssize_t count = recv(fd_.get(), bytes, sizeof bytes, 0);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return Fail(ExitCode::kIoError, "the machine ended before it answered");
    input_.append(bytes, static_cast<size_t>(count));
  }
}

Result<void> Client::Send(std::span<const Request> requests) {
  std::string lines;
  for (const Request& request : requests) lines += FormatRequest(request);
  // A few short lines always have room.
  if (send(fd_.get(), lines.data(), lines.size(), MSG_NOSIGNAL) < 0) {
    return Fail(ExitCode::kIoError, "the machine ended before it was asked");
  }
  return {};
}

Result<std::string> Client::Receive(Command command) {
  const bool takes_time =
      command == Command::kSuspend || command == Command::kMove || command == Command::kWait;
  return ReadLine(takes_time ? kForEver : kPatience);
}

void Client::AwaitEnd() {
  while (ReadLine(kForEver)) {
  }
  if (!process_) return;
  pollfd wait{.fd = process_.get(), .events = POLLIN, .revents = 0};
  while (poll(&wait, 1, -1) < 0 && errno == EINTR) {
  }
}

}  // namespace vmm::control
