#include "guest-tools/init/channel.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include <cerrno>

namespace guest_init {

namespace wire = vmm::test_channel;

bool Channel::Open() {
  fd_ = open("/dev/ttyS1", O_RDWR | O_NOCTTY | O_CLOEXEC);
  termios line{};
  if (fd_ < 0 || tcgetattr(fd_, &line) != 0) return false;  // a port without a chip
  cfmakeraw(&line);
  line.c_cflag |= CLOCAL | CREAD;
  line.c_cc[VMIN] = 1;
  line.c_cc[VTIME] = 0;
  cfsetspeed(&line, B115200);
  return tcsetattr(fd_, TCSANOW, &line) == 0;
}

void Channel::TakeAcks(bool wait) {
  pollfd state{fd_, POLLIN, 0};
  while (poll(&state, 1, wait ? -1 : 0) > 0) {
    uint8_t bytes[64];
    const ssize_t got = read(fd_, bytes, sizeof bytes);
    for (ssize_t i = 0; i < got; ++i) {
      if (bytes[i] == wire::kAck && on_their_way_ > 0) --on_their_way_;
    }
    wait = false;
  }
}

void Channel::Send(Type type, const void* payload, size_t size) {
  while (!has_room()) TakeAcks(true);
  uint8_t frame[wire::kHeader + wire::kMaxPayload];
  memcpy(frame + wire::kHeader, payload, size);
  wire::Seal(frame, type, size, number_++);
  ++on_their_way_;
  const uint8_t* from = frame;
  size_t left = wire::kHeader + size;
  while (left != 0) {
    const ssize_t wrote = write(fd_, from, left);
    if (wrote < 0 && errno != EINTR) return;
    if (wrote < 0) continue;
    from += wrote;
    left -= static_cast<size_t>(wrote);
  }
}

void Channel::SendText(Type type, const char* text) {
  const size_t size = strlen(text);
  Send(type, text, size < wire::kMaxPayload ? size : wire::kMaxPayload);
}

void Channel::Drain() {
  while (tcdrain(fd_) != 0 && errno == EINTR) {
  }
}

}  // namespace guest_init
