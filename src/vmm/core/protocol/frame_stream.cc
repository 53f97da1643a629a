#include "vmm/core/protocol/frame_stream.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

namespace vmm {
namespace {

constexpr size_t kMostSent = 256 * 1024;  // bytes that have left and still take memory

void StoreLength(uint8_t* at, size_t length) {
  for (int i = 0; i < 4; ++i) at[i] = static_cast<uint8_t>(length >> (8 * (3 - i)));
}

bool MayPass(int error) {
  return error == EAGAIN || error == EWOULDBLOCK;
}

}  // namespace

size_t FrameStream::LoadLength(const uint8_t* prefix) {
  return size_t{prefix[0]} << 24 | size_t{prefix[1]} << 16 | size_t{prefix[2]} << 8 | prefix[3];
}

FrameStream::FrameStream(int fd, size_t in_buffer) : fd_(fd), in_(in_buffer) {
  fcntl(fd_, F_SETFL, fcntl(fd_, F_GETFL) | O_NONBLOCK);
}

void FrameStream::Break() {
  is_over_ = true;
  out_.clear();
  sent_ = parsed_ = filled_ = 0;
}

void FrameStream::Add(std::span<const uint8_t> frame) {
  if (is_over_) return;
  const size_t at = out_.size();
  out_.resize(at + kPrefix);
  StoreLength(out_.data() + at, frame.size());
  out_.insert(out_.end(), frame.begin(), frame.end());
}

void FrameStream::Flush() {
  while (waiting() != 0) {
    const ssize_t done = send(fd_, out_.data() + sent_, waiting(), MSG_NOSIGNAL);
    if (done < 0) {
      if (errno == EINTR) continue;
      if (!MayPass(errno)) return Break();
      // What has left makes room for what comes, now and then.
      if (sent_ >= kMostSent) {
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

bool FrameStream::Fill() {
  if (is_over_) return false;
  if (parsed_ != 0) {
    std::memmove(in_.data(), in_.data() + parsed_, filled_ - parsed_);
    filled_ -= parsed_;
    parsed_ = 0;
  }
  ssize_t got;
  do {
    got = recv(fd_, in_.data() + filled_, in_.size() - filled_, 0);
  } while (got < 0 && errno == EINTR);
  if (got > 0) {
    filled_ += static_cast<size_t>(got);
    return true;
  }
  if (got == 0 || !MayPass(errno)) Break();
  return false;
}

bool FrameStream::Next(std::span<const uint8_t>& frame) {
  const size_t there = filled_ - parsed_;
  if (there < kPrefix) return false;
  const size_t length = LoadLength(in_.data() + parsed_);
  if (length > kMaxFrame) {
    Break();
    return false;
  }
  if (there - kPrefix < length) return false;
  frame = std::span<const uint8_t>(in_).subspan(parsed_ + kPrefix, length);
  parsed_ += kPrefix + length;
  return true;
}

}  // namespace vmm
