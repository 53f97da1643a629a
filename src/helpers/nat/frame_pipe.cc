#include "helpers/nat/frame_pipe.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "vmm/core/protocol/net_stream.h"

namespace nat {
namespace {

using vmm::net_stream::kPrefix;

constexpr size_t kInBuffer = 512 * 1024, kMostWaiting = 4 * 1024 * 1024;

}  // namespace

FramePipe::FramePipe(int fd) : fd_(fd), in_(kInBuffer) {
  fcntl(fd_, F_SETFL, fcntl(fd_, F_GETFL) | O_NONBLOCK);
}

void FramePipe::Send(std::span<const uint8_t> frame) {
  if (out_.size() - sent_ > kMostWaiting) return;
  const size_t at = out_.size();
  out_.resize(at + kPrefix);
  vmm::net_stream::StoreLength(out_.data() + at, frame.size());
  out_.insert(out_.end(), frame.begin(), frame.end());
}

void FramePipe::Flush() {
  while (WantsToWrite()) {
    const ssize_t done = send(fd_, out_.data() + sent_, out_.size() - sent_, MSG_NOSIGNAL);
    if (done < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN) is_over_ = true;
      if (sent_ > kMostWaiting) {
        out_.erase(out_.begin(), out_.begin() + static_cast<ptrdiff_t>(sent_));
        sent_ = 0;
      }
      return;
    }
    sent_ += static_cast<size_t>(done);
  }
  out_.clear();
  sent_ = 0;
}

bool FramePipe::Fill() {
  std::memmove(in_.data(), in_.data() + parsed_, filled_ - parsed_);
  filled_ -= parsed_;
  parsed_ = 0;
  const ssize_t got = recv(fd_, in_.data() + filled_, in_.size() - filled_, 0);
  if (got > 0) {
    filled_ += static_cast<size_t>(got);
    return true;
  }
  if (got == 0 || (errno != EAGAIN && errno != EINTR)) is_over_ = true;
  return false;
}

bool FramePipe::Next(std::span<const uint8_t>& frame) {
  const size_t there = filled_ - parsed_;
  if (there < kPrefix) return false;
  const size_t length = vmm::net_stream::LoadLength(in_.data() + parsed_);
  if (length > vmm::net_stream::kMaxFrame) {
    is_over_ = true;
    return false;
  }
  if (there - kPrefix < length) return false;
  frame = std::span<const uint8_t>(in_).subspan(parsed_ + kPrefix, length);
  parsed_ += kPrefix + length;
  return true;
}

}  // namespace nat
