// [GDB] E.1
#include "vmm/gdb/packet.h"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "tests/unit/support/fakes.h"
#include "vmm/gdb/hex.h"

using vmm::gdb::FieldReader;
using vmm::gdb::FramePacket;
using vmm::gdb::FromHex;
using vmm::gdb::PacketReader;
using vmm::gdb::ToHex;
using Event = PacketReader::Event;

namespace {

std::span<const uint8_t> Bytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

// All events in `text`, packets among them as their text.
struct Read {
  std::vector<Event> events;
  std::vector<std::string> packets;
};
Read ReadAll(PacketReader& reader, std::string_view text) {
  Read read;
  auto bytes = Bytes(text);
  for (Event event; (event = reader.Next(bytes)) != Event::kNone;) {
    read.events.push_back(event);
    if (event == Event::kPacket) read.packets.push_back(reader.packet());
  }
  CHECK(bytes.empty());
  return read;
}
Read ReadAll(std::string_view text) {
  PacketReader reader;
  return ReadAll(reader, text);
}
using Events = std::vector<Event>;
using Packets = std::vector<std::string>;

// What GDB does with a packet of ours: checks the sum, undoes counts and escapes.
std::string Unframe(const std::string& frame) {
  REQUIRE(frame.size() >= 4);
  REQUIRE(frame.front() == '$');
  REQUIRE(frame[frame.size() - 3] == '#');
  const std::string body = frame.substr(1, frame.size() - 4);
  uint8_t sum = 0;
  for (const char c : body) sum = static_cast<uint8_t>(sum + static_cast<uint8_t>(c));
  CHECK(frame.substr(frame.size() - 2) == ToHex(std::span(&sum, 1)));
  std::string text;
  for (size_t i = 0; i < body.size(); ++i) {
    REQUIRE(body[i] != '$');
    REQUIRE(body[i] != '#');
    if (body[i] == '}') {
      text += static_cast<char>(body[++i] ^ 0x20);
    } else if (body[i] == '*') {
      REQUIRE(!text.empty());
      const int count = body[++i] - 29;
      REQUIRE(count >= 3);
      REQUIRE(body[i] <= 126);
      text.append(static_cast<size_t>(count), text.back());
    } else {
      text += body[i];
    }
  }
  return text;
}

}  // namespace

TEST_CASE("a packet is found between its dollar and its checksum", "[gdb]") {
  const Read read = ReadAll("$?#3f$OK#9a$#00");
  CHECK(read.packets == Packets{"?", "OK", ""});
  CHECK(read.events == Events{Event::kPacket, Event::kPacket, Event::kPacket});
}

TEST_CASE("a packet may come in pieces", "[gdb]") {
  PacketReader reader;
  for (const char* piece : {"$m1", "000,", "4#8", "e"}) {
    const Read read = ReadAll(reader, piece);
    if (*piece == 'e')
      CHECK(read.packets == Packets{"m1000,4"});
    else
      CHECK(read.events.empty());
  }
}

TEST_CASE("a wrong checksum, and one that is none, are told", "[gdb]") {
  CHECK(ReadAll("$?#40").events == Events{Event::kBadChecksum});
  CHECK(ReadAll("$?#zf").events == Events{Event::kBadChecksum});
  CHECK(ReadAll("$?#3z").events == Events{Event::kBadChecksum});
  CHECK(ReadAll("$?#3F").packets == Packets{"?"});
}

TEST_CASE("escaped bytes are taken back, and count as they were sent", "[gdb]") {
  // 7d 03 is '#', 7d 5d is '}'
  std::string body = "X10,2:";
  body += "}\x03}]";
  uint8_t sum = 0;
  for (const char c : body) sum = static_cast<uint8_t>(sum + static_cast<uint8_t>(c));
  const Read read = ReadAll("$" + body + "#" + ToHex(std::span(&sum, 1)));
  CHECK(read.packets == Packets{"X10,2:#}"});
}

TEST_CASE("an interrupt counts between packets only", "[gdb]") {
  CHECK(ReadAll("\x03").events == Events{Event::kInterrupt});
  CHECK(ReadAll("+\x03-").events == Events{Event::kAck, Event::kInterrupt, Event::kNak});
  CHECK(ReadAll(std::string("$X\x03#5b", 6)).packets == Packets{std::string("X\x03", 2)});
}

TEST_CASE("a new dollar begins anew, and noise between packets is skipped", "[gdb]") {
  CHECK(ReadAll("$mab$?#3f").packets == Packets{"?"});
  CHECK(ReadAll("hello\r\n$?#3f").packets == Packets{"?"});
  CHECK(ReadAll("$a}$?#3f").packets == Packets{"?"});  // cut off in an escape
}

TEST_CASE("a packet that is too long is told once, and the next one is read", "[gdb]") {
  const std::string longest(PacketReader::kMaxPacket, 'a');
  CHECK(ReadAll("$" + longest + "#00$?#3f").packets == Packets{longest, "?"});
  const Read read = ReadAll("$" + longest + "a#61$?#3f");
  CHECK(read.events == Events{Event::kTooLong, Event::kPacket});
  CHECK(read.packets == Packets{"?"});
}

TEST_CASE("what is sent is what GDB reads, whatever it holds", "[gdb]") {
  CHECK(FramePacket("OK") == "$OK#9a");
  CHECK(FramePacket("") == "$#00");
  CHECK(FramePacket("0000") == "$0* #7a");  // the manual's example: "0* " is 0000
  fakes::Random random(1);
  for (unsigned i = 0; i < 2000; ++i) {
    std::string text;
    while (text.size() < i % 300) {
      text.append(1 + (random.Below(4) == 0 ? random.Below(250) : 0),
                  static_cast<char>(random.Below(3) == 0 ? "$#}*+-"[random.Below(6)]
                                                         : static_cast<int>(random.Below(256))));
    }
    CHECK(Unframe(FramePacket(text)) == text);
  }
}

TEST_CASE("no count is written as a character that frames or acknowledges", "[gdb]") {
  for (size_t length = 1; length < 300; ++length) {
    const std::string text(length, 'x');
    const std::string frame = FramePacket(text);
    CHECK(Unframe(frame) == text);
    const std::string body = frame.substr(1, frame.size() - 4);
    CHECK(body.find_first_of("#$+-") == std::string::npos);
    CHECK(body.size() <= 6 + length / 20);
  }
}

TEST_CASE("fields of a packet are read from left to right", "[gdb]") {
  FieldReader fields("1f,A0:rest;x");
  CHECK(fields.Number() == 0x1f);
  CHECK_FALSE(fields.Number());
  CHECK_FALSE(fields.Skip(':'));
  CHECK(fields.Skip(','));
  CHECK(fields.Number() == 0xa0);
  CHECK(fields.Until(';') == ":rest");
  CHECK(fields.rest() == "x");
  CHECK(fields.Until(';') == "x");
  CHECK(fields.empty());
  CHECK(FieldReader("ffffffffffffffff").Number() == ~uint64_t{0});
  CHECK_FALSE(FieldReader("10000000000000000").Number());
  CHECK(FieldReader("00000000000000001").Number() == 1);
}

TEST_CASE("hexadecimal bytes are pairs of digits", "[gdb]") {
  CHECK(ToHex(std::string_view("\x01\xfe", 2)) == "01fe");
  CHECK(FromHex("01Fe") == std::vector<uint8_t>{0x01, 0xfe});
  CHECK(FromHex("") == std::vector<uint8_t>{});
  CHECK_FALSE(FromHex("1"));
  CHECK_FALSE(FromHex("1g"));
}
