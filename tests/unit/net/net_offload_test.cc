// Checksums and segments in software, against the plain way to make them.
#include "vmm/core/net/net_offload.h"

#include <catch2/catch.hpp>

#include "tests/unit/net/tcp_frames.h"

namespace vmm {
namespace {

std::vector<std::vector<uint8_t>> All(const FrameList& list) {
  std::vector<std::vector<uint8_t>> frames;
  for (size_t i = 0; i < list.size(); ++i) {
    frames.emplace_back(list[i].bytes.begin(), list[i].bytes.end());
  }
  return frames;
}

}  // namespace

TEST_CASE("The fast sum is the plain one, at every length", "[net]") {  // [RFC 1071]
  std::vector<uint8_t> data(300, 0xFF);
  for (size_t length = 0; length <= data.size(); ++length) {
    const auto part = std::span<const uint8_t>(data).first(length);
    CHECK(FoldChecksum(AddToChecksum(0, part)) == (~tcp::Sum(part) & 0xFFFF));
    data[length % 300] = static_cast<uint8_t>(length * 31);
  }
}

TEST_CASE("A finished frame passes as it is", "[net]") {
  FrameList list;
  const std::vector<uint8_t> frame(60, 7);
  const NetHeader header{.flags = NetHeader::kDataValid};
  REQUIRE(Unload(header, frame, {}, list));
  REQUIRE(list.size() == 1);
  CHECK(list[0].header == header);
  CHECK(All(list)[0] == frame);
  CHECK(TakesAsIs(header, {}));
}

TEST_CASE("A checksum is finished, and zero is written as its complement", "[net]") {  // [RFC 768]
  for (const bool is_ipv6 : {false, true}) {
    for (const size_t payload : {0, 1, 2, 1447, 1448}) {
      const auto made = tcp::Frame(is_ipv6, payload, false);
      CHECK_FALSE(tcp::IsSound(made.frame));
      FrameList list;
      REQUIRE(Unload(made.header, made.frame, {}, list));
      CHECK(tcp::IsSound(list[0].bytes));
      CHECK(list[0].header == NetHeader());
    }
  }
  std::vector<uint8_t> frame(60, 0);
  frame[40] = frame[41] = 0xFF;
  FrameList list;
  REQUIRE(Unload({.flags = 1, .csum_start = 40, .csum_offset = 4}, frame, {}, list));
  CHECK(tcp::Get16(list[0].bytes, 44) == 0xFFFF);
}

TEST_CASE("Segments follow each other and each is a frame of its own", "[net]") {
  for (const bool is_ipv6 : {false, true}) {
    const size_t tcp_at = is_ipv6 ? tcp::kTcp6 : tcp::kTcp4, data_at = tcp_at + tcp::kTcpHeader;
    for (const size_t payload : {size_t{0}, size_t{1}, size_t{1448}, size_t{1449}, size_t{14480},
                                 size_t{65535 - 60 - 40}}) {
      const auto made = tcp::Frame(is_ipv6, payload, true);
      FrameList list;
      REQUIRE(Unload(made.header, made.frame, {.checksum = true, .tcp4 = is_ipv6, .tcp6 = !is_ipv6},
                     list));
      const size_t count = payload == 0 ? 1 : (payload + 1447) / 1448;
      REQUIRE(list.size() == count);
      size_t done = 0;
      for (size_t i = 0; i < count; ++i) {
        const auto segment = list[i].bytes;
        CHECK(tcp::IsSound(segment));
        CHECK(tcp::Get32(segment, tcp_at + 4) == static_cast<uint32_t>(tcp::kSequence + done));
        if (!is_ipv6) CHECK(tcp::Get16(segment, 18) == ((0xFFFF + i) & 0xFFFF));
        const unsigned flags = 0x10u | (i == 0 ? 0x80u : 0) | (i + 1 == count ? 0x09u : 0);
        CHECK(segment[tcp_at + 13] == flags);
        CHECK(std::equal(segment.begin() + static_cast<ptrdiff_t>(data_at), segment.end(),
                         made.frame.begin() + static_cast<ptrdiff_t>(data_at + done)));
        done += segment.size() - data_at;
      }
      CHECK(done == payload);
    }
  }
}

TEST_CASE("Who takes frames of any size gets one, sound", "[net]") {
  for (const bool is_ipv6 : {false, true}) {
    const auto made = tcp::Frame(is_ipv6, 60000, true);
    FrameList list;
    REQUIRE(Unload(made.header, made.frame, {.any_size = true}, list));
    REQUIRE(list.size() == 1);
    CHECK(tcp::IsSound(list[0].bytes));
    CHECK(list[0].bytes.size() == made.frame.size());
  }
}

TEST_CASE("Tags before the packet are looked through", "[net]") {  // [802.1Q]
  auto made = tcp::Frame4(5000, true);
  const uint8_t tag[] = {0x81, 0x00, 0x00, 0x05};
  made.frame.insert(made.frame.begin() + 12, std::begin(tag), std::end(tag));
  made.header.csum_start += 4;
  FrameList list;
  REQUIRE(Unload(made.header, made.frame, {}, list));
  REQUIRE(list.size() == 4);
  for (auto frame : All(list)) {
    CHECK(std::equal(frame.begin() + 12, frame.begin() + 16, tag));
    frame.erase(frame.begin() + 12, frame.begin() + 16);
    CHECK(tcp::IsSound(frame));
  }
}

TEST_CASE("Every header that does not fit its frame is refused", "[net]") {
  const auto good = tcp::Frame4(3000, true);
  const auto refused = [&](auto damage) {
    auto bad = good;
    damage(bad);
    FrameList list;
    return !Unload(bad.header, bad.frame, {}, list) && list.size() == 0;
  };
  CHECK_FALSE(refused([](auto&) {}));
  CHECK(refused([](auto& m) { m.header.flags = 0; }));
  CHECK(refused([](auto& m) { m.header.gso_size = 0; }));
  CHECK(refused([](auto& m) { m.header.gso_size = 47; }));
  CHECK(refused([](auto& m) { m.header.gso_type = NetHeader::kTcp6; }));
  CHECK(refused([](auto& m) { m.header.gso_type = NetHeader::kUdp; }));
  CHECK(refused([](auto& m) { m.header.csum_start = 33; }));
  CHECK(refused([](auto& m) { m.header.csum_start = 65535; }));
  CHECK(refused([](auto& m) { m.header.csum_offset = 65535; }));
  CHECK(refused([](auto& m) { m.frame[12] = 9; }));
  CHECK(refused([](auto& m) { m.frame[23] = 17; }));
  CHECK(refused([](auto& m) { m.frame[14] = 0x46; }));
  CHECK(refused([](auto& m) { m.frame[46] = 0x40; }));
  CHECK(refused([](auto& m) { m.frame.resize(60); }));
  CHECK(refused([](auto& m) { m.frame.resize(13); }));
  CHECK(refused([](auto& m) { m.frame.clear(); }));
}

TEST_CASE("Headers of more than a KiB are refused, for each segment would have them", "[net]") {
  const auto with_extensions = [](size_t bytes) {  // between IPv6's header and TCP
    auto made = tcp::Frame(/*is_ipv6=*/true, 3000, true);
    made.frame.insert(made.frame.begin() + 14 + 40, bytes, uint8_t{0});
    made.header.csum_start = static_cast<uint16_t>(made.header.csum_start + bytes);
    FrameList list;
    return Unload(made.header, made.frame, {}, list) ? list.size() : 0;
  };
  const size_t own = tcp::kTcp6 + tcp::kTcpHeader;
  CHECK(with_extensions(0) == 3);
  CHECK(with_extensions(1024 - own) == 3);
  CHECK(with_extensions(1024 - own + 1) == 0);
  CHECK(with_extensions(40000) == 0);
}

}  // namespace vmm
