#include "vmm/core/net/tap_backend.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace vmm {
namespace {

constexpr const char* kDevice = "/dev/net/tun";

// What a guest may leave to the kernel, the same as the kernel leaves to us by
// SetReceiveOffloads().
constexpr NetOffloads kKernelTakes{.checksum = true, .tcp4 = true, .tcp6 = true, .any_size = false};

}  // namespace

Result<std::unique_ptr<NetBackend>> TapBackend::Open(const std::string& name) {
  ifreq request{};
  if (name.empty() || name.size() >= sizeof request.ifr_name) {
    return Fail(ExitCode::kConfigInvalid,
                fmt::format("'{}' is no name of a tap (it has 1 to {} bytes); fix: name one that "
                            "`ip link` shows",
                            name, sizeof request.ifr_name - 1));
  }
  UniqueFd tap(open(kDevice, O_RDWR | O_CLOEXEC | O_NONBLOCK));
  if (!tap) {
    const int error = errno;
    auto failed = FailErrno(ExitCode::kUnavailable, fmt::format("can't open {}", kDevice), error);
    failed.value().message += "; fix: modprobe tun, or write mode = \"user\"";
    return failed;
  }
  std::memcpy(request.ifr_name, name.data(), name.size());
  request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
  if (ioctl(tap.get(), TUNSETIFF, &request) != 0) {
    const int error = errno;
    auto failed =
        FailErrno(ExitCode::kUnavailable, fmt::format("can't attach to the tap {}", name), error);
    failed.value().message +=
        error == EBUSY
            ? "; fix: end the program that uses it, or name another"
            : fmt::format(
                  "; fix: make it for this user: sudo ip tuntap add dev {} mode tap user "
                  "$USER; sudo ip link set {} up",
                  name, name);
    return failed;
  }
  return Make(std::move(tap), name);
}

Result<std::unique_ptr<NetBackend>> TapBackend::Adopt(UniqueFd tap) {
  const std::string what = fmt::format("descriptor {}", tap.get());
  fcntl(tap.get(), F_SETFD, FD_CLOEXEC);
  fcntl(tap.get(), F_SETFL, fcntl(tap.get(), F_GETFL) | O_NONBLOCK);
  return Make(std::move(tap), what);
}

Result<std::unique_ptr<NetBackend>> TapBackend::Make(UniqueFd tap, const std::string& what) {
  ifreq request{};
  if (ioctl(tap.get(), TUNGETIFF, &request) != 0) {
    return Fail(ExitCode::kConfigInvalid,
                fmt::format("{} is no tap: {}; fix: inherit one that TUNSETIFF has attached", what,
                            std::strerror(errno)));
  }
  if ((request.ifr_flags & IFF_TAP) == 0 || (request.ifr_flags & IFF_NO_PI) == 0) {
    return Fail(ExitCode::kConfigInvalid,
                fmt::format("{} is a tun, or has packet information before its frames; fix: attach "
                            "it with IFF_TAP | IFF_NO_PI | IFF_VNET_HDR",
                            what));
  }
  const bool has_header = (request.ifr_flags & IFF_VNET_HDR) != 0;
  int size = sizeof(NetHeader);
  if (has_header && (ioctl(tap.get(), TUNSETVNETHDRSZ, &size) != 0 ||
                     ioctl(tap.get(), TUNSETOFFLOAD, 0UL) != 0)) {
    return FailErrno(ExitCode::kUnavailable, fmt::format("{}: the kernel takes no headers", what),
                     errno);
  }
  return std::unique_ptr<NetBackend>(new TapBackend(std::move(tap), has_header));
}

NetOffloads TapBackend::takes() const {
  return has_header_ ? kKernelTakes : NetOffloads{};
}

void TapBackend::SetReceiveOffloads(const NetOffloads& offloads) {
  if (!has_header_) return;
  unsigned long bits = 0;
  if (offloads.checksum) bits |= TUN_F_CSUM;
  if (offloads.checksum && offloads.tcp4) bits |= TUN_F_TSO4;
  if (offloads.checksum && offloads.tcp6) bits |= TUN_F_TSO6;
  // Refused, it stays as it was, and what comes is unloaded in software.
  static_cast<void>(ioctl(tap_.get(), TUNSETOFFLOAD, bits));
}

bool TapBackend::Send(const NetHeader& header, std::span<const uint8_t> frame) {
  NetHeader copy = header;
  copy.num_buffers = 0;
  const iovec parts[] = {{&copy, sizeof copy}, {const_cast<uint8_t*>(frame.data()), frame.size()}};
  const iovec* first = has_header_ ? parts : parts + 1;
  ssize_t done;
  do {
    done = writev(tap_.get(), first, has_header_ ? 2 : 1);
  } while (done < 0 && errno == EINTR);
  // A tap that is down (EIO) or has no room loses frames, as a wire without a peer. EBADFD: its
  // device was deleted.
  if (done < 0 && errno == EBADFD) is_up_ = false;
  return true;
}

size_t TapBackend::Receive(NetHeader& header, std::span<uint8_t> to) {
  header = {};
  const iovec parts[] = {{&header, sizeof header}, {to.data(), to.size()}};
  for (;;) {
    const ssize_t got = readv(tap_.get(), has_header_ ? parts : parts + 1, has_header_ ? 2 : 1);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      if (errno == EBADFD) is_up_ = false;
      return 0;
    }
    const size_t before = has_header_ ? sizeof header : 0;
    if (static_cast<size_t>(got) < before + kMinFrame) continue;
    return static_cast<size_t>(got) - before;
  }
}

}  // namespace vmm
