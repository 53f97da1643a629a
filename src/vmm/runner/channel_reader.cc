#include "vmm/runner/channel_reader.h"

#include <algorithm>

namespace vmm {

using namespace test_channel;

void ChannelReader::Put(std::span<const uint8_t> bytes) {
  if (!damage_.empty()) return;
  bytes_.erase(bytes_.begin(), bytes_.begin() + static_cast<std::ptrdiff_t>(from_));
  from_ = 0;
  bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
}

ChannelReader::Look ChannelReader::LookAt(size_t at) const {
  const uint8_t* frame = bytes_.data() + at;
  const size_t there = bytes_.size() - at;
  if (there == 0) return Look::kIncomplete;
  if (frame[0] != kMagic) return Look::kNone;
  if (there < kHeader) return Look::kIncomplete;
  const size_t length = Load(frame + 2, 2);
  if (length > kMaxPayload || frame[1] < kFirstType || frame[1] > kLastType ||
      Load(frame + 4, 4) != next_number_) {
    return Look::kNone;
  }
  if (there < kHeader + length) return Look::kIncomplete;
  const uint32_t checksum = Crc32(Crc32(0, frame, 8), frame + kHeader, length);
  return Load(frame + 8, 4) == checksum ? Look::kFrame : Look::kNone;
}

std::optional<ChannelReader::Frame> ChannelReader::Next() {
  while (damage_.empty()) {
    switch (LookAt(from_)) {
      case Look::kIncomplete:
        return {};
      case Look::kNone:
        if (greeted_) {
          damage_ = "something in the guest wrote to its second serial line, which vmm test needs";
          bytes_.clear();
          from_ = 0;
          return {};
        }
        ++from_;
        continue;
      case Look::kFrame:
        break;
    }
    const uint8_t* frame = bytes_.data() + from_;
    const size_t length = Load(frame + 2, 2);
    from_ += kHeader + length;
    ++next_number_;
    greeted_ = true;
    return Frame{static_cast<Type>(frame[1]),
                 {reinterpret_cast<const char*>(frame + kHeader), length}};
  }
  return {};
}

bool ChannelState::Take(const ChannelReader::Frame& frame) {
  if (over() || (frame.type == Type::kHello) == greeted) return false;
  const std::string_view payload = frame.payload;
  switch (frame.type) {
    case Type::kHello:
      if (payload.empty() || static_cast<uint8_t>(payload[0]) != kVersion) return false;
      greeted = true;
      kernel = PlainText(payload.substr(1));
      return true;
    case Type::kNote:
      notes.push_back(PlainText(payload));
      return true;
    case Type::kProblem:
      problem = payload.empty() ? "it does not say why" : PlainText(payload);
      return true;
    case Type::kStarted:
      if (started) return false;
      started = true;
      return true;
    case Type::kStdout:
    case Type::kStderr:
      return started;
    case Type::kEnded:
      if (!started || payload.size() != 2 || payload[0] < 0 || payload[0] > 1) return false;
      end = End{static_cast<How>(payload[0]), static_cast<uint8_t>(payload[1])};
      return true;
  }
  return false;
}

std::string PlainText(std::string_view text) {
  std::string plain(text);
  std::replace_if(
      plain.begin(), plain.end(),
      [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; }, ' ');
  return plain;
}

}  // namespace vmm
