#include "vmm/gdb/packet.h"

#include <algorithm>

#include "vmm/gdb/hex.h"

namespace vmm::gdb {
namespace {

constexpr uint8_t kCtrlC = 3;
constexpr uint8_t kEscapeFlip = 0x20;

// A repeat count is one printable character: the number of further copies plus this.
constexpr size_t kRepeatBase = 29;
constexpr size_t kFewestRepeats = 3;  // fewer are shorter when written out
constexpr size_t kMostRepeats = 126 - kRepeatBase;

bool NeedsEscape(char c) {
  return c == '$' || c == '#' || c == '}' || c == '*';
}

// Counts whose character would be taken for the frame or an acknowledgement.
bool IsCountForbidden(size_t repeats) {
  const char count = static_cast<char>(repeats + kRepeatBase);
  return count == '#' || count == '$' || count == '+' || count == '-';
}

}  // namespace

PacketReader::Event PacketReader::Next(std::span<const uint8_t>& bytes) {
  while (!bytes.empty()) {
    const uint8_t byte = bytes.front();
    bytes = bytes.subspan(1);
    if (const Event event = Take(byte); event != Event::kNone) return event;
  }
  return Event::kNone;
}

void PacketReader::Begin() {
  state_ = State::kText;
  text_.clear();
  length_ = 0;
  sum_ = 0;
}

PacketReader::Event PacketReader::Take(uint8_t byte) {
  switch (state_) {
    case State::kBetween:
      if (byte == '$') Begin();
      if (byte == kCtrlC) return Event::kInterrupt;
      if (byte == '+') return Event::kAck;
      if (byte == '-') return Event::kNak;
      return Event::kNone;
    case State::kText:
    case State::kEscaped:
      Append(byte);
      return Event::kNone;
    case State::kFirstDigit:
      first_digit_ = HexDigit(byte);
      state_ = State::kSecondDigit;
      return Event::kNone;
    case State::kSecondDigit:
      return Finish(byte);
  }
  return Event::kNone;
}

void PacketReader::Append(uint8_t byte) {
  if (byte == '$') return Begin();  // the last one was cut off
  if (byte == '#') {
    state_ = State::kFirstDigit;
    return;
  }
  sum_ = static_cast<uint8_t>(sum_ + byte);
  if (++length_ > kMaxPacket) return;  // counted, not kept
  if (state_ == State::kEscaped) {
    text_ += static_cast<char>(byte ^ kEscapeFlip);
    state_ = State::kText;
  } else if (byte == '}') {
    state_ = State::kEscaped;
  } else {
    text_ += static_cast<char>(byte);
  }
}

PacketReader::Event PacketReader::Finish(uint8_t byte) {
  state_ = State::kBetween;
  const int second_digit = HexDigit(byte);
  if (first_digit_ < 0 || second_digit < 0) return Event::kBadChecksum;
  if ((first_digit_ << 4 | second_digit) != sum_) return Event::kBadChecksum;
  return length_ > kMaxPacket ? Event::kTooLong : Event::kPacket;
}

std::string FramePacket(std::string_view text) {
  std::string frame = "$";
  for (size_t i = 0; i < text.size();) {
    const char c = text[i];
    if (NeedsEscape(c)) {
      frame += '}';
      frame += static_cast<char>(c ^ kEscapeFlip);
      ++i;
      continue;
    }
    const size_t end = std::min(text.find_first_not_of(c, i), text.size());
    size_t repeats = std::min(end - i - 1, kMostRepeats);
    while (repeats >= kFewestRepeats && IsCountForbidden(repeats)) --repeats;
    frame += c;
    ++i;
    if (repeats < kFewestRepeats) continue;
    frame += '*';
    frame += static_cast<char>(repeats + kRepeatBase);
    i += repeats;
  }
  uint8_t sum = 0;
  for (const char c : std::string_view(frame).substr(1)) {
    sum = static_cast<uint8_t>(sum + static_cast<uint8_t>(c));
  }
  frame += '#';
  frame += ToHex(std::span(&sum, 1));
  return frame;
}

}  // namespace vmm::gdb
