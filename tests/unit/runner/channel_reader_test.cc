#include "vmm/runner/channel_reader.h"

#include <catch2/catch.hpp>
#include <string>

#include "frames.h"

namespace vmm::test {
namespace {

using test_channel::Type;

struct Taken {
  Type type;
  std::string payload;
};

// All frames that come when the bytes come `step` at a time.
std::vector<Taken> ReadAll(ChannelReader& reader, const Bytes& bytes, size_t step) {
  std::vector<Taken> taken;
  for (size_t at = 0; at < bytes.size(); at += step) {
    reader.Put(std::span(bytes).subspan(at, std::min(step, bytes.size() - at)));
    while (auto frame = reader.Next()) taken.push_back({frame->type, std::string(frame->payload)});
  }
  return taken;
}

const Bytes kTalk = Frame(Type::kHello,
                          "\x01"
                          "6.1.0",
                          0) +
                    Frame(Type::kStarted, "", 1) +
                    Frame(Type::kStdout, std::string(test_channel::kMaxPayload, 'x'), 2) +
                    Frame(Type::kStderr, "\xD6\x05 oh", 3) +
                    Frame(Type::kEnded, std::string("\0\7", 2), 4);

TEST_CASE("Frames come out whole however their bytes come in", "[test channel]") {
  for (const size_t step : {1u, 2u, 7u, 13u, 1000u, 100000u}) {
    ChannelReader reader;
    const std::vector<Taken> taken = ReadAll(reader, kTalk, step);
    REQUIRE(taken.size() == 5);
    CHECK(taken[2].payload == std::string(test_channel::kMaxPayload, 'x'));
    CHECK(taken[3].payload == "\xD6\x05 oh");
    CHECK(taken[4].type == Type::kEnded);
    CHECK(reader.damage().empty());
  }
}

TEST_CASE("What stood on the line before the first frame is passed over", "[test channel]") {
  ChannelReader reader;
  CHECK(ReadAll(reader, Bytes{'\r', 0xD6, 'x', 0xD6, 0x01, 0, 0, 0, 0, 0} + kTalk, 3).size() == 5);
  CHECK(reader.damage().empty());
}

TEST_CASE("A byte between two frames, a changed byte or a lost frame ends all belief",
          "[test channel]") {
  const Bytes hello = Frame(Type::kHello, "\x01k", 0);
  const Bytes end = Frame(Type::kEnded, std::string("\0\0", 2), 1);
  const auto is_damaged = [&](const Bytes& bytes, size_t frames) {
    ChannelReader reader;
    CHECK(ReadAll(reader, bytes, 5).size() == frames);
    CHECK_FALSE(reader.damage().empty());
    CHECK(ReadAll(reader, end, 5).empty());
  };
  is_damaged(hello + Bytes{'x'} + end, 1);
  is_damaged(hello + Frame(Type::kEnded, std::string("\0\0", 2), 2), 1);
  for (size_t at = test_channel::kHeader + 2; at < (hello + end).size(); ++at) {
    Bytes bytes = hello + end + end;
    bytes[at] ^= 0x10;
    ChannelReader reader;
    for (const Taken& taken : ReadAll(reader, bytes, 5)) CHECK(taken.type != Type::kEnded);
  }
}

TEST_CASE("A frame longer than any is none, and its length is not waited for", "[test channel]") {
  Bytes frame = Frame(Type::kStdout, std::string(test_channel::kMaxPayload, 'x'), 1);
  test_channel::Store(&frame[2], test_channel::kMaxPayload + 1, 2);
  ChannelReader reader;
  ReadAll(reader, Frame(Type::kHello, "\x01k", 0) + frame, 1);
  CHECK_FALSE(reader.damage().empty());
}

ChannelState StateAfter(std::initializer_list<std::pair<Type, std::string_view>> frames,
                        bool* good) {
  ChannelState state;
  *good = true;
  for (const auto& [type, payload] : frames) *good = *good && state.Take({type, payload});
  return state;
}

TEST_CASE("What the init says is taken only in its order", "[test channel]") {
  constexpr std::string_view kHello(
      "\x01"
      "6.1");
  constexpr std::string_view kExit("\0\3", 2), kSignal("\1\x0b", 2);
  bool good = false;
  ChannelState state = StateAfter(
      {{Type::kHello, kHello}, {Type::kNote, "a\nb"}, {Type::kStarted, ""}, {Type::kEnded, kExit}},
      &good);
  CHECK(good);
  CHECK(state.kernel == "6.1");
  CHECK(state.notes == std::vector<std::string>{"a b"});
  REQUIRE(state.end);
  CHECK(state.end->number == 3);
  CHECK(state.over());

  state =
      StateAfter({{Type::kHello, kHello}, {Type::kStarted, ""}, {Type::kEnded, kSignal}}, &good);
  CHECK(good);
  CHECK(state.end->how == test_channel::How::kKilled);

  const auto refused = [](std::initializer_list<std::pair<Type, std::string_view>> frames) {
    bool all_good = false;
    StateAfter(frames, &all_good);
    return !all_good;
  };
  CHECK(refused({{Type::kStarted, ""}}));
  CHECK(refused({{Type::kHello, "\x02x"}}));
  CHECK(refused({{Type::kHello, ""}}));
  CHECK(refused({{Type::kHello, kHello}, {Type::kHello, kHello}}));
  CHECK(refused({{Type::kHello, kHello}, {Type::kEnded, kExit}}));
  CHECK(refused({{Type::kHello, kHello}, {Type::kStdout, "x"}}));
  CHECK(refused({{Type::kHello, kHello}, {Type::kStarted, ""}, {Type::kStarted, ""}}));
  CHECK(refused({{Type::kHello, kHello}, {Type::kStarted, ""}, {Type::kEnded, "\x02\x01"}}));
  CHECK(refused({{Type::kHello, kHello}, {Type::kStarted, ""}, {Type::kEnded, "\x01"}}));
  CHECK(refused({{Type::kHello, kHello}, {Type::kProblem, "no"}, {Type::kStarted, ""}}));
  CHECK(refused({{Type::kHello, kHello},
                 {Type::kStarted, ""},
                 {Type::kEnded, kExit},
                 {Type::kStdout, "late"}}));
}

TEST_CASE("The checksum of frames is the CRC-32 of Ethernet", "[test channel]") {
  const std::string_view text = "123456789";
  const auto* bytes = reinterpret_cast<const uint8_t*>(text.data());
  CHECK(test_channel::Crc32(0, bytes, 9) == 0xCBF43926);
  CHECK(test_channel::Crc32(test_channel::Crc32(0, bytes, 4), bytes + 4, 5) == 0xCBF43926);
}

}  // namespace
}  // namespace vmm::test
