#include "vmm/core/net/stream_backend.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "vmm/core/protocol/net_stream.h"

namespace vmm {
namespace {

using net_stream::kPrefix;
static_assert(net_stream::kMaxFrame == NetBackend::kMaxFrame);

constexpr size_t kMostWaiting = 256 * 1024;  // bytes that no room was found for
constexpr size_t kEnough = 64 * 1024;        // bytes that are worth a call
constexpr size_t kInBuffer = 256 * 1024;

}  // namespace

StreamBackend::StreamBackend(UniqueFd socket, const NetOffloads& takes, bool is_near)
    : socket_(std::move(socket)), takes_(takes), is_near_(is_near), in_(kInBuffer) {
  fcntl(socket_.get(), F_SETFL, fcntl(socket_.get(), F_GETFL) | O_NONBLOCK);
}

void StreamBackend::Break() {
  is_up_ = false;
  out_.clear();
  sent_ = 0;
}

bool StreamBackend::Send(const NetHeader&, std::span<const uint8_t> frame) {
  if (!is_up_ || frame.size() > kMaxFrame) return true;
  if (out_.size() - sent_ >= kMostWaiting) return false;
  const size_t at = out_.size();
  out_.resize(at + kPrefix);
  net_stream::StoreLength(out_.data() + at, frame.size());
  out_.insert(out_.end(), frame.begin(), frame.end());
  if (out_.size() - sent_ >= kEnough) Flush();
  return true;
}

void StreamBackend::Flush() {
  while (is_up_ && WantsToWrite()) {
    const ssize_t done =
        send(socket_.get(), out_.data() + sent_, out_.size() - sent_, MSG_NOSIGNAL);
    if (done < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN && errno != EWOULDBLOCK) Break();
      // What has left makes room for what comes, now and then.
      if (sent_ >= kMostWaiting) {
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

// Reads what there is room for; false: nothing came.
bool StreamBackend::Fill() {
  if (!is_up_) return false;
  if (parsed_ != 0) {
    std::memmove(in_.data(), in_.data() + parsed_, filled_ - parsed_);
    filled_ -= parsed_;
    parsed_ = 0;
  }
  ssize_t got;
  do {
    got = recv(socket_.get(), in_.data() + filled_, in_.size() - filled_, 0);
  } while (got < 0 && errno == EINTR);
  if (got > 0) {
    filled_ += static_cast<size_t>(got);
    return true;
  }
  if (got == 0 || (errno != EAGAIN && errno != EWOULDBLOCK)) Break();
  return false;
}

size_t StreamBackend::Receive(NetHeader& header, std::span<uint8_t> to) {
  for (;;) {
    const size_t there = filled_ - parsed_;
    if (there >= kPrefix) {
      const size_t length = net_stream::LoadLength(in_.data() + parsed_);
      if (length > kMaxFrame) {
        filled_ = parsed_ = 0;
        Break();
        return 0;
      }
      if (there - kPrefix >= length) {
        const uint8_t* frame = in_.data() + parsed_ + kPrefix;
        parsed_ += kPrefix + length;
        if (length < kMinFrame || length > to.size()) continue;
        header = {};
        if (is_near_) header.flags = NetHeader::kDataValid;
        std::copy_n(frame, length, to.begin());
        return length;
      }
    }
    if (!Fill()) return 0;
  }
}

}  // namespace vmm
