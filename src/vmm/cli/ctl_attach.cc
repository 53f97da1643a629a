// `vmm ctl attach`: this terminal and a console of a running machine, connected.
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "vmm/cli/ctl_parts.h"
#include "vmm/core/host/char_exit_guard.h"
#include "vmm/core/host/unique_fd.h"

namespace vmm {
namespace {

constexpr char kEscape = 0x01;  // Ctrl-A, as on the machine's own terminal

Result<UniqueFd> Open(const CtlConsole& console) {
  const auto failed = [&](int error) {
    return FailErrno(ExitCode::kUnavailable, fmt::format("can't attach to {}", console.where),
                     error);
  };
  if (console.kind == "pty") {
    UniqueFd fd(open(console.where.c_str(), O_RDWR | O_NOCTTY | O_CLOEXEC));
    if (!fd) return failed(errno);
    return fd;
  }
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (console.where.size() >= sizeof address.sun_path) return failed(ENAMETOOLONG);
  std::memcpy(address.sun_path, console.where.c_str(), console.where.size() + 1);
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd || connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return failed(errno);
  }
  return fd;
}

bool WriteAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = write(fd, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return false;
    bytes.remove_prefix(static_cast<size_t>(count));
  }
  return true;
}

// What the user typed without the escape keys; false: he leaves.
bool Filter(std::string_view typed, bool& escaped, std::string& out) {
  for (const char key : typed) {
    if (!std::exchange(escaped, false)) {
      escaped = key == kEscape;
      if (!escaped) out += key;
    } else if (key == 'd') {
      return false;
    } else if (key == 'a' || key == kEscape) {
      out += kEscape;
    } else {
      out += {kEscape, key};
    }
  }
  return true;
}

}  // namespace

Result<void> Attach(const CtlConsole& console) {
  auto opened = Open(console);
  if (!opened) return tl::unexpected(std::move(opened.error()));
  const int fd = opened->get();
  const bool is_terminal = isatty(STDIN_FILENO) != 0;
  CharExitGuard terminal;
  if (is_terminal) {
    constexpr std::string_view kHint = "vmm: attached; Ctrl-A d leaves\n";
    WriteAll(STDERR_FILENO, kHint);
    auto raw = CharExitGuard::RawTerminal(STDIN_FILENO);
    if (!raw) return tl::unexpected(std::move(raw.error()));
    terminal = std::move(*raw);
  }
  pollfd ends[] = {{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0},
                   {.fd = fd, .events = POLLIN, .revents = 0}};
  char bytes[4096];
  for (bool escaped = false;;) {
    if (poll(ends, 2, -1) < 0 && errno != EINTR) {
      return FailErrno(ExitCode::kOsError, "can't wait for the console", errno);
    }
    if (ends[1].revents != 0) {
      const ssize_t count = read(fd, bytes, sizeof bytes);
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) return {};  // the machine has ended
      if (!WriteAll(STDOUT_FILENO, {bytes, static_cast<size_t>(count)})) {
        return FailErrno(ExitCode::kIoError, "can't write to standard output", errno);
      }
    }
    if (ends[0].revents == 0) continue;
    const ssize_t count = read(STDIN_FILENO, bytes, sizeof bytes);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      ends[0].fd = -1;  // the output is of interest still
      shutdown(fd, SHUT_WR);
      continue;
    }
    const std::string_view typed(bytes, static_cast<size_t>(count));
    std::string out;
    if (is_terminal ? !Filter(typed, escaped, out) : (out = typed, false)) return {};
    if (!WriteAll(fd, out)) return {};
  }
}

}  // namespace vmm
