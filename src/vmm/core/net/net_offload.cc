#include "vmm/core/net/net_offload.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

namespace vmm {
namespace {

constexpr size_t kEthernet = 14, kTag = 4, kTypeAt = 12;
constexpr uint16_t kIpv4 = 0x0800, kIpv6 = 0x86DD, kVlan = 0x8100, kServiceVlan = 0x88A8;
constexpr uint8_t kProtocolTcp = 6;
constexpr size_t kMinIpv4 = 20, kIpv6Header = 40, kMinTcp = 20;
constexpr size_t kMaxPacket = 65535;
// All headers of a segment: each is copied with them, so that what a guest sends as one frame would
// else cost it as many times. IPv4 has less; IPv6 with extension headers has no bound of its own.
constexpr size_t kMaxHeaders = 1024;
// [RFC 9293] 3.1; flags are the low byte.
constexpr size_t kSequenceAt = 4, kOffsetAt = 12, kFlagsAt = 13, kTcpChecksumAt = 16;
constexpr uint8_t kFin = 0x01, kPush = 0x08, kCongestionReduced = 0x80;

uint32_t Load(std::span<const uint8_t> data, size_t at, size_t size) {
  uint32_t value = 0;
  for (size_t i = 0; i < size; ++i) value = value << 8 | data[at + i];
  return value;
}

void Store(std::span<uint8_t> data, size_t at, size_t size, uint32_t value) {
  for (size_t i = size; i-- > 0; value >>= 8) data[at + i] = static_cast<uint8_t>(value);
}

// Where the parts of a TCP segment begin.
struct TcpLayout {
  bool is_ipv6;
  size_t ip, tcp, payload;
};

std::optional<TcpLayout> FindTcp(const NetHeader& header, std::span<const uint8_t> frame) {
  size_t ip = kEthernet;
  if (frame.size() < ip) return {};
  uint32_t type = Load(frame, kTypeAt, 2);
  for (int tags = 0; tags < 2 && (type == kVlan || type == kServiceVlan); ++tags) {
    ip += kTag;
    if (frame.size() < ip) return {};
    type = Load(frame, ip - 2, 2);
  }
  TcpLayout layout{type == kIpv6, ip, header.csum_start, 0};
  const size_t least = ip + (layout.is_ipv6 ? kIpv6Header : kMinIpv4);
  if (layout.tcp < least || frame.size() < layout.tcp + kMinTcp) return {};
  const uint8_t gso = header.gso_type & ~NetHeader::kEcn;
  if (layout.is_ipv6) {
    if (gso != NetHeader::kTcp6) return {};
  } else {
    const bool is_tcp = type == kIpv4 && gso == NetHeader::kTcp4 && frame[ip + 9] == kProtocolTcp &&
                        layout.tcp == ip + 4 * size_t(frame[ip] & 0xF);
    if (!is_tcp) return {};
  }
  const size_t tcp_length = 4 * size_t(frame[layout.tcp + kOffsetAt] >> 4);
  layout.payload = layout.tcp + tcp_length;
  if (tcp_length < kMinTcp || layout.payload > std::min(frame.size(), kMaxHeaders)) return {};
  return layout;
}

// Of the segment's TCP header and payload with its pseudo header. [RFC 9293] 3.1, [RFC 8200] 8.1
uint16_t TcpChecksum(std::span<const uint8_t> segment, const TcpLayout& at) {
  const auto addresses =
      at.is_ipv6 ? segment.subspan(at.ip + 8, 32) : segment.subspan(at.ip + 12, 8);
  const auto tcp = segment.subspan(at.tcp);
  uint64_t sum = AddToChecksum(0, addresses);
  std::array<uint8_t, 8> rest{};
  Store(rest, 0, 4, static_cast<uint32_t>(tcp.size()));
  rest[7] = kProtocolTcp;
  return FoldChecksum(AddToChecksum(AddToChecksum(sum, rest), tcp));
}

// The payload in pieces of `most` bytes, each behind the frame's headers, made its own.
void Segment(std::span<const uint8_t> frame, const TcpLayout& at, size_t most, FrameList& out) {
  const size_t total = frame.size() - at.payload;
  uint32_t number = 0;
  size_t done = 0;
  do {
    const size_t part = std::min(most, total - done);
    const std::span<uint8_t> segment = out.Add({}, at.payload + part);
    std::memcpy(segment.data(), frame.data(), at.payload);
    if (part != 0) std::memcpy(segment.data() + at.payload, frame.data() + at.payload + done, part);
    if (at.is_ipv6) {
      Store(segment, at.ip + 4, 2, static_cast<uint32_t>(segment.size() - at.ip - kIpv6Header));
    } else {
      Store(segment, at.ip + 2, 2, static_cast<uint32_t>(segment.size() - at.ip));
      Store(segment, at.ip + 4, 2, Load(frame, at.ip + 4, 2) + number);
      Store(segment, at.ip + 10, 2, 0);
      const uint16_t sum = FoldChecksum(AddToChecksum(0, segment.subspan(at.ip, at.tcp - at.ip)));
      Store(segment, at.ip + 10, 2, sum);
    }
    Store(segment, at.tcp + kSequenceAt, 4,
          Load(frame, at.tcp + kSequenceAt, 4) + static_cast<uint32_t>(done));
    uint8_t& flags = segment[at.tcp + kFlagsAt];
    if (number != 0) flags &= static_cast<uint8_t>(~kCongestionReduced);
    done += part;
    if (done != total) flags &= static_cast<uint8_t>(~(kFin | kPush));
    Store(segment, at.tcp + kTcpChecksumAt, 2, 0);
    Store(segment, at.tcp + kTcpChecksumAt, 2, TcpChecksum(segment, at));
    ++number;
  } while (done != total);
}

bool TakesSegments(uint8_t gso_type, const NetOffloads& offloads) {
  const uint8_t gso = gso_type & ~NetHeader::kEcn;
  return (gso == NetHeader::kTcp4 && offloads.tcp4) || (gso == NetHeader::kTcp6 && offloads.tcp6);
}

}  // namespace

FrameList::Frame FrameList::operator[](size_t index) const {
  const Entry& entry = entries_[index];
  return {entry.header, std::span(bytes_).subspan(entry.start, entry.length)};
}

std::span<uint8_t> FrameList::Add(const NetHeader& header, size_t length) {
  const size_t start = bytes_.size();
  bytes_.resize(start + length);
  entries_.push_back({header, start, length});
  return std::span(bytes_).subspan(start);
}

// [RFC 1071] 2: the sum may be made in any width and order of bytes, if it is folded and swapped
// at the end. An odd last byte counts as if a zero came behind it.
uint64_t AddToChecksum(uint64_t sum, std::span<const uint8_t> data) {
  const uint8_t* at = data.data();
  size_t left = data.size();
  for (; left >= 4; at += 4, left -= 4) {
    uint32_t word;
    std::memcpy(&word, at, sizeof word);
    sum += word;
  }
  uint32_t last = 0;
  if (left != 0) std::memcpy(&last, at, left);
  return sum + last;
}

uint16_t FoldChecksum(uint64_t sum) {
  while (sum >> 16 != 0) sum = (sum & 0xFFFF) + (sum >> 16);
  const auto folded = static_cast<uint16_t>(~sum);
  return static_cast<uint16_t>(folded << 8 | folded >> 8);
}

bool TakesAsIs(const NetHeader& header, const NetOffloads& offloads) {
  if (header.gso_type != NetHeader::kNone) return TakesSegments(header.gso_type, offloads);
  return (header.flags & NetHeader::kNeedsChecksum) == 0 || offloads.checksum;
}

bool Unload(const NetHeader& header, std::span<const uint8_t> frame, const NetOffloads& offloads,
            FrameList& out) {
  const bool needs_checksum = (header.flags & NetHeader::kNeedsChecksum) != 0;
  const size_t place = size_t{header.csum_start} + header.csum_offset;
  if (needs_checksum && place + 2 > frame.size()) return false;
  if (header.gso_type != NetHeader::kNone && (!needs_checksum || header.gso_size == 0))
    return false;
  if (TakesAsIs(header, offloads)) {
    std::ranges::copy(frame, out.Add(header, frame.size()).begin());
    return true;
  }
  if (header.gso_type != NetHeader::kNone) {
    const auto layout = FindTcp(header, frame);
    if (!layout) return false;
    const size_t whole = frame.size() - layout->payload;
    const bool fits = frame.size() - layout->ip <= kMaxPacket;
    // Segments below any sense would only cost: 64 KiB of them in single bytes.
    constexpr size_t kLeastSegment = 48;
    if (header.gso_size < kLeastSegment && whole > header.gso_size) return false;
    Segment(frame, *layout,
            offloads.any_size && fits ? std::max<size_t>(whole, 1) : header.gso_size, out);
    return true;
  }
  NetHeader finished;
  finished.flags = header.flags & NetHeader::kDataValid;
  const std::span<uint8_t> copy = out.Add(finished, frame.size());
  std::ranges::copy(frame, copy.begin());
  // The place holds the sum of the pseudo header, which so is counted too. Zero would say that
  // there is no checksum in UDP, and is the same number as its complement. [RFC 768]
  const uint16_t sum = FoldChecksum(AddToChecksum(0, copy.subspan(header.csum_start)));
  Store(copy, place, 2, sum == 0 ? 0xFFFF : sum);
  return true;
}

}  // namespace vmm
