// The framing of GDB's remote serial protocol: $text#checksum, acknowledgements and the interrupt
// byte. [GDB] E.1
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace vmm::gdb {

// Finds packets in a stream of bytes that nobody trusts.
class PacketReader {
 public:
  // Longest text of a packet in bytes, before escapes are undone; told to GDB as PacketSize.
  static constexpr size_t kMaxPacket = 0x4000;

  enum class Event : uint8_t {
    kNone,         // all bytes are taken, a packet may have begun
    kPacket,       // packet() is whole and its checksum is right
    kBadChecksum,  // damaged on the way: the sender shall repeat it
    kTooLong,      // its checksum is right, but it has more than kMaxPacket bytes
    kInterrupt,    // Ctrl-C between two packets
    kAck,
    kNak,
  };

  // Takes bytes off the front of `bytes` up to the next event, which it returns.
  Event Next(std::span<const uint8_t>& bytes);

  // The text of the last kPacket, escapes undone; it may hold any byte. Until the next call.
  const std::string& packet() const { return text_; }

 private:
  enum class State : uint8_t { kBetween, kText, kEscaped, kFirstDigit, kSecondDigit };

  Event Take(uint8_t byte);
  void Begin();
  void Append(uint8_t byte);
  Event Finish(uint8_t byte);

  State state_ = State::kBetween;
  std::string text_;
  size_t length_ = 0;  // of the text as it was sent
  uint8_t sum_ = 0;
  int first_digit_ = 0;
};

// $text#checksum. Bytes that have a meaning of their own are escaped; repeated ones are counted,
// which GDB always understands.
std::string FramePacket(std::string_view text);

}  // namespace vmm::gdb
