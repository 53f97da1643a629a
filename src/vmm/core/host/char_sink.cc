#include "vmm/core/host/char_sink.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>

namespace vmm {
namespace {

constexpr size_t kNoLimit = SSIZE_MAX;

}  // namespace

UniqueFd OpenAgain(int fd, int flags) {
  const std::string path = "/proc/self/fd/" + std::to_string(fd);
  return UniqueFd(open(path.c_str(), flags | O_CLOEXEC | O_NOCTTY));
}

CharSink CharSink::Own(UniqueFd fd, Written written) {
  return {std::move(fd), Mode::kWrite, kNoLimit, std::move(written)};
}

CharSink CharSink::Socket(UniqueFd fd) {
  return {std::move(fd), Mode::kSend, kNoLimit};
}

CharSink CharSink::Shared(int fd) {
  UniqueFd copy(fcntl(fd, F_DUPFD_CLOEXEC, 3));
  struct stat status{};
  if (!copy || fstat(fd, &status) != 0) return Own(UniqueFd());
  if (S_ISSOCK(status.st_mode)) return Socket(std::move(copy));
  const bool terminal = isatty(fd) == 1;
  if (S_ISFIFO(status.st_mode) || terminal) {
    if (UniqueFd again = OpenAgain(fd, O_WRONLY | O_NONBLOCK)) return Own(std::move(again));
    // A pipe with room has at least PIPE_BUF bytes of it, a terminal one.
    return {std::move(copy), Mode::kAskFirst, terminal ? 1 : size_t{PIPE_BUF}};
  }
  return Own(std::move(copy));  // files and devices: the position in the file is shared too
}

ssize_t CharSink::Put(std::span<const uint8_t> data) const {
  const size_t size = std::min(data.size(), most_);
  if (mode_ == Mode::kAskFirst && !WaitForRoom(std::chrono::nanoseconds(0))) return -EAGAIN;
  for (;;) {
    const ssize_t n = mode_ == Mode::kSend
                          ? send(fd(), data.data(), size, MSG_DONTWAIT | MSG_NOSIGNAL)
                          : write(fd(), data.data(), size);
    if (n > 0 && written_) written_(fd(), static_cast<size_t>(n));
    if (n > 0) return n;
    if (n == 0) return -EAGAIN;
    if (errno != EINTR) return -errno;
  }
}

bool CharSink::WaitForRoom(std::chrono::nanoseconds timeout) const {
  const auto end = std::chrono::steady_clock::now() + timeout;
  for (;;) {
    pollfd wanted{.fd = fd(), .events = POLLOUT, .revents = 0};
    const timespec left{.tv_sec = timeout.count() / 1'000'000'000,
                        .tv_nsec = timeout.count() % 1'000'000'000};
    const int ready = ppoll(&wanted, 1, &left, nullptr);
    if (ready > 0) return true;
    if (ready == 0 || errno != EINTR) return false;
    timeout = std::max(std::chrono::nanoseconds(0),
                       std::chrono::nanoseconds(end - std::chrono::steady_clock::now()));
  }
}

}  // namespace vmm
