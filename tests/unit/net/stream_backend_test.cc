// Frames through a stream socket, whole, cut, and too many; and the record of what passes.
#include "vmm/core/net/stream_backend.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstring>
#include <fstream>
#include <iterator>

#include "tests/support/fake_wire.h"
#include "tests/unit/support/temp_dir.h"
#include "vmm/core/net/pcap_backend.h"

namespace vmm {
namespace {

using Bytes = std::vector<uint8_t>;

struct Pair {
  Pair() {
    int ends[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    ours = UniqueFd(ends[0]);
    theirs = UniqueFd(ends[1]);
  }
  UniqueFd ours, theirs;
};

Bytes WithLength(const Bytes& frame) {
  Bytes bytes = {static_cast<uint8_t>(frame.size() >> 24), static_cast<uint8_t>(frame.size() >> 16),
                 static_cast<uint8_t>(frame.size() >> 8), static_cast<uint8_t>(frame.size())};
  bytes.insert(bytes.end(), frame.begin(), frame.end());
  return bytes;
}

Bytes ReceiveOne(StreamBackend& wire, uint8_t* flags = nullptr) {
  Bytes frame(NetBackend::kMaxFrame);
  NetHeader header{.flags = 9, .gso_type = 9};
  frame.resize(wire.Receive(header, frame));
  if (flags != nullptr) *flags = header.flags;
  return frame;
}

}  // namespace

TEST_CASE("A frame travels behind its length in four bytes, big endian", "[net]") {
  Pair pair;
  StreamBackend wire(std::move(pair.ours), {}, false);
  const Bytes one(60, 1), two(1500, 2);
  CHECK(wire.Send({}, one));
  CHECK(wire.Send({}, two));
  CHECK(wire.WantsToWrite());
  wire.Flush();
  CHECK_FALSE(wire.WantsToWrite());
  Bytes expected = WithLength(one);
  const Bytes second = WithLength(two);
  expected.insert(expected.end(), second.begin(), second.end());
  Bytes got(expected.size() + 1);
  CHECK(recv(pair.theirs.get(), got.data(), got.size(), 0) == ssize_t(expected.size()));
  got.pop_back();
  CHECK(got == expected);
}

TEST_CASE("Frames that come cut anywhere come out whole", "[net]") {
  Pair pair;
  StreamBackend wire(std::move(pair.ours), {}, true);
  const Bytes one(61, 1), two(NetBackend::kMaxFrame, 2);
  Bytes stream = WithLength(one);
  for (const Bytes& frame : {Bytes(5, 9), two, one}) {  // the short one is none
    const Bytes more = WithLength(frame);
    stream.insert(stream.end(), more.begin(), more.end());
  }
  std::vector<Bytes> got;
  const auto take = [&] {
    for (uint8_t flags = 0;;) {
      Bytes frame = ReceiveOne(wire, &flags);
      if (frame.empty()) return;
      CHECK(flags == NetHeader::kDataValid);
      got.push_back(std::move(frame));
    }
  };
  for (size_t at = 0; at < stream.size();) {
    const size_t part = std::min<size_t>(at < 200 ? 1 : 4099, stream.size() - at);
    REQUIRE(send(pair.theirs.get(), stream.data() + at, part, 0) == ssize_t(part));
    at += part;
    take();
  }
  CHECK(got == std::vector<Bytes>{one, two, one});
  CHECK(wire.is_up());
}

TEST_CASE("A peer that does not read holds up the sender, not the card", "[net]") {
  Pair pair;
  StreamBackend wire(std::move(pair.ours), {}, false);
  const Bytes frame(60000, 3);
  size_t sent = 0;
  while (wire.Send({}, frame)) REQUIRE(++sent < 1000);
  CHECK(wire.WantsToWrite());
  // What was taken comes out, all of it and nothing else.
  const size_t expected = sent * (frame.size() + 4);
  size_t got = 0;
  Bytes buffer(1 << 20);
  while (got < expected) {
    wire.Flush();
    const ssize_t part = recv(pair.theirs.get(), buffer.data(), buffer.size(), 0);
    REQUIRE(part > 0);
    got += static_cast<size_t>(part);
  }
  CHECK(got == expected);
  CHECK_FALSE(wire.WantsToWrite());
  CHECK(wire.Send({}, frame));
}

TEST_CASE("Frames pass whole, once and in order while the socket is full all the time", "[net]") {
  Pair pair;
  const int little = 8192;  // so that it takes parts of frames
  REQUIRE(setsockopt(pair.ours.get(), SOL_SOCKET, SO_SNDBUF, &little, sizeof little) == 0);
  for (const int end : {pair.ours.get(), pair.theirs.get()}) {
    REQUIRE(fcntl(end, F_SETFL, O_NONBLOCK) == 0);
  }
  StreamBackend wire(std::move(pair.ours), {}, false);
  constexpr size_t kFrames = 600;
  const auto frame_of = [](size_t number) {
    Bytes frame(60 + number * 977 % 9000);
    for (size_t i = 0; i < frame.size(); ++i) frame[i] = static_cast<uint8_t>(number * 31 + i * 7);
    return frame;
  };
  size_t sent = 0, got = 0, refused = 0;
  Bytes come, buffer(3001);
  const auto take = [&] {
    const Bytes expected = WithLength(frame_of(got));
    if (come.size() < expected.size()) return false;
    REQUIRE(std::equal(expected.begin(), expected.end(), come.begin()));
    come.erase(come.begin(), come.begin() + static_cast<ptrdiff_t>(expected.size()));
    return true;
  };
  while (got < kFrames) {
    while (sent < kFrames && wire.Send({}, frame_of(sent))) ++sent;
    if (sent < kFrames) ++refused;
    wire.Flush();
    CHECK(ReceiveOne(wire).empty());  // nothing comes, which is no end
    const ssize_t part = recv(pair.theirs.get(), buffer.data(), buffer.size(), 0);
    REQUIRE(part > 0);
    come.insert(come.end(), buffer.begin(), buffer.begin() + part);
    while (got < kFrames && take()) ++got;
  }
  CHECK(refused > 100);
  CHECK(come.empty());
  CHECK(wire.is_up());
  CHECK_FALSE(wire.WantsToWrite());
  CHECK(recv(pair.theirs.get(), buffer.data(), buffer.size(), 0) == -1);
}

TEST_CASE("A length that can't be, or a peer that goes, takes the wire down", "[net]") {
  for (const bool goes : {false, true}) {
    Pair pair;
    StreamBackend wire(std::move(pair.ours), {}, false);
    const uint8_t bad[] = {0, 2, 0, 0, 1, 2, 3};
    if (!goes) REQUIRE(send(pair.theirs.get(), bad, sizeof bad, 0) == sizeof bad);
    if (goes) pair.theirs.Reset();
    CHECK(ReceiveOne(wire).empty());
    CHECK_FALSE(wire.is_up());
    CHECK(wire.Send({}, Bytes(60)));  // lost, as by a cable that was cut
    wire.Flush();
    CHECK_FALSE(wire.WantsToWrite());
    CHECK(ReceiveOne(wire).empty());
  }
}

TEST_CASE("What passes is recorded, both ways, and only what was taken", "[net]") {  // [PCAP]
  const TempDir directory;
  const auto path = directory.path() / "net.pcap";
  auto made = std::make_unique<FakeWire>();
  FakeWire& wire = *made;
  {
    auto recorder = PcapBackend::Create(path, std::move(made));
    REQUIRE(recorder);
    CHECK((*recorder)->Send({}, Bytes(60, 1)));
    wire.room = 0;
    CHECK_FALSE((*recorder)->Send({}, Bytes(60, 9)));
    wire.coming.push_back({{}, Bytes(100, 2)});
    NetHeader header;
    Bytes frame(NetBackend::kMaxFrame);
    CHECK((*recorder)->Receive(header, frame) == 100);
    CHECK((*recorder)->Receive(header, frame) == 0);
  }
  std::ifstream file(path, std::ios::binary);
  const Bytes bytes{std::istreambuf_iterator<char>(file), {}};
  REQUIRE(bytes.size() == 24 + 16 + 60 + 16 + 100);
  const auto word = [&](size_t at) {
    uint32_t value;
    std::memcpy(&value, bytes.data() + at, sizeof value);
    return value;
  };
  CHECK(word(0) == 0xA1B23C4D);
  CHECK(word(20) == 1);
  CHECK(word(24 + 8) == 60);
  CHECK(word(24 + 12) == 60);
  CHECK(bytes[40] == 1);
  CHECK(word(100 + 8) == 100);
  CHECK(bytes[116] == 2);
  CHECK_FALSE(PcapBackend::Create(directory.path() / "no" / "where", std::make_unique<FakeWire>()));
}

}  // namespace vmm
