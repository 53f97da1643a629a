#include "vmm/core/net/stream_backend.h"

#include <algorithm>
#include <utility>

namespace vmm {
namespace {

static_assert(FrameStream::kMaxFrame == NetBackend::kMaxFrame);

constexpr size_t kMostWaiting = 256 * 1024;  // bytes that no room was found for
constexpr size_t kEnough = 64 * 1024;        // bytes that are worth a call
constexpr size_t kInBuffer = 256 * 1024;

}  // namespace

StreamBackend::StreamBackend(UniqueFd socket, const NetOffloads& takes, bool is_near)
    : socket_(std::move(socket)),
      takes_(takes),
      is_near_(is_near),
      stream_(socket_.get(), kInBuffer) {}

bool StreamBackend::Send(const NetHeader&, std::span<const uint8_t> frame) {
  if (!is_up() || frame.size() > kMaxFrame) return true;
  if (stream_.waiting() >= kMostWaiting) return false;
  stream_.Add(frame);
  if (stream_.waiting() >= kEnough) Flush();
  return true;
}

size_t StreamBackend::Receive(NetHeader& header, std::span<uint8_t> to) {
  do {
    for (std::span<const uint8_t> frame; stream_.Next(frame);) {
      if (frame.size() < kMinFrame || frame.size() > to.size()) continue;
      header = {};
      if (is_near_) header.flags = NetHeader::kDataValid;
      std::ranges::copy(frame, to.begin());
      return frame.size();
    }
  } while (stream_.Fill());
  return 0;
}

}  // namespace vmm
