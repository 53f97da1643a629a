// TCP segments as a guest's network stack makes them, and as a peer looks at them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "vmm/core/net/net_header.h"

namespace tcp {

// One's complement sum of big-endian words, the slow and plain way.
inline uint32_t Sum(std::span<const uint8_t> data, uint32_t sum = 0) {
  for (size_t i = 0; i < data.size(); ++i) sum += uint32_t{data[i]} << (i % 2 == 0 ? 8 : 0);
  while (sum >> 16 != 0) sum = (sum & 0xFFFF) + (sum >> 16);
  return sum;
}

inline void Put16(std::vector<uint8_t>& frame, size_t at, uint32_t value) {
  frame[at] = static_cast<uint8_t>(value >> 8);
  frame[at + 1] = static_cast<uint8_t>(value);
}
inline uint32_t Get16(std::span<const uint8_t> frame, size_t at) {
  return uint32_t{frame[at]} << 8 | frame[at + 1];
}
inline uint32_t Get32(std::span<const uint8_t> frame, size_t at) {
  return Get16(frame, at) << 16 | Get16(frame, at + 2);
}

// The sum of the pseudo header for `length` bytes of TCP. [RFC 9293] 3.1
inline uint32_t PseudoSum(std::span<const uint8_t> frame, bool is_ipv6, size_t length) {
  const uint32_t addresses = is_ipv6 ? Sum(frame.subspan(22, 32)) : Sum(frame.subspan(26, 8));
  const uint8_t rest[] = {0, 6, static_cast<uint8_t>(length >> 8), static_cast<uint8_t>(length)};
  return Sum(rest, addresses);
}

struct Made {
  vmm::NetHeader header;
  std::vector<uint8_t> frame;
};

inline constexpr size_t kTcp4 = 34, kTcp6 = 54, kTcpHeader = 32;  // with 12 bytes of options
inline constexpr uint32_t kSequence = 0xFFFFFF00;
inline constexpr uint8_t kFlags = 0x80 | 0x10 | 0x08 | 0x01;  // CWR, ACK, PSH, FIN

// A segment with `payload` bytes, whose checksum, and if `gso` whose segmentation into 1448 bytes,
// is left to others.
inline Made Frame(bool is_ipv6, size_t payload, bool gso) {
  const size_t tcp = is_ipv6 ? kTcp6 : kTcp4;
  Made made;
  std::vector<uint8_t>& frame = made.frame;
  frame.resize(tcp + kTcpHeader + payload);
  for (size_t i = 0; i < 12; ++i) frame[i] = static_cast<uint8_t>(0x50 + i);
  Put16(frame, 12, is_ipv6 ? 0x86DD : 0x0800);
  const size_t length = kTcpHeader + payload;
  if (is_ipv6) {
    frame[14] = 0x60;
    Put16(frame, 18, static_cast<uint32_t>(length));
    frame[20] = 6;
    frame[21] = 64;
    for (size_t i = 22; i < 54; ++i) frame[i] = static_cast<uint8_t>(i * 5);
  } else {
    frame[14] = 0x45;
    Put16(frame, 16, static_cast<uint32_t>(20 + length));
    Put16(frame, 18, 0xFFFF);
    frame[22] = 64;
    frame[23] = 6;
    for (size_t i = 26; i < 34; ++i) frame[i] = static_cast<uint8_t>(i * 5);
    Put16(frame, 24, ~Sum(std::span(frame).subspan(14, 20)) & 0xFFFF);
  }
  Put16(frame, tcp, 1000);
  Put16(frame, tcp + 2, 80);
  Put16(frame, tcp + 4, kSequence >> 16);
  Put16(frame, tcp + 6, kSequence & 0xFFFF);
  frame[tcp + 12] = (kTcpHeader / 4) << 4;
  frame[tcp + 13] = kFlags;
  for (size_t i = 0; i < payload; ++i) frame[tcp + kTcpHeader + i] = static_cast<uint8_t>(i * 11);
  Put16(frame, tcp + 16, PseudoSum(frame, is_ipv6, length));
  made.header.flags = vmm::NetHeader::kNeedsChecksum;
  made.header.csum_start = static_cast<uint16_t>(tcp);
  made.header.csum_offset = 16;
  if (gso) {
    made.header.gso_type = is_ipv6 ? vmm::NetHeader::kTcp6 : vmm::NetHeader::kTcp4;
    made.header.gso_size = 1448;
    made.header.hdr_len = static_cast<uint16_t>(tcp + kTcpHeader);
  }
  return made;
}
inline Made Frame4(size_t payload, bool gso) {
  return Frame(false, payload, gso);
}

// Lengths and checksums are right.
inline bool IsSound(std::span<const uint8_t> frame) {
  const bool is_ipv6 = Get16(frame, 12) == 0x86DD;
  const size_t tcp = is_ipv6 ? kTcp6 : kTcp4, length = frame.size() - tcp;
  if (is_ipv6 ? Get16(frame, 18) != length
              : Get16(frame, 16) != length + 20 || Sum(frame.subspan(14, 20)) != 0xFFFF) {
    return false;
  }
  return Sum(frame.subspan(tcp), PseudoSum(frame, is_ipv6, length)) == 0xFFFF;
}

}  // namespace tcp
