#include "vmm/core/state/field_codec.h"

#include <catch2/catch.hpp>

namespace vmm::test {
namespace {

enum class Bit : uint16_t { kLow = 1, kHigh = 0x8000 };
enum class Mode : uint8_t { kA, kB };

struct Inner {
  bool flag = false;
  std::array<uint16_t, 2> pair{};
  friend bool operator==(const Inner&, const Inner&) = default;
};

struct Outer {
  uint8_t byte = 0;
  int64_t number = 0;
  Mode mode = Mode::kA;
  BitRegister<Bit> bits;
  std::array<Inner, 2> inner{};
  FixedQueue<uint32_t, 3> queue;
  friend bool operator==(const Outer&, const Outer&) = default;
};

Outer Example() {
  Outer value;
  value.byte = 0x12;
  value.number = -2;
  value.mode = Mode::kB;
  value.bits = BitRegister<Bit>(0x8001);
  value.inner[1] = {true, {0x3456, 0x789a}};
  value.queue.Push(7);
  value.queue.Push(8);
  value.queue.Pop();
  return value;
}

std::vector<uint8_t> BytesOf(const Outer& value) {
  FieldWriter writer;
  writer.Put(value);
  return writer.Take();
}

TEST_CASE("A struct becomes its members' bytes, little endian and without padding") {
  const std::vector<uint8_t> expected = {
      0x12,                                            // byte
      0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,  // number
      1,                                               // mode
      0x01, 0x80,                                      // bits
      0,    0,    0,    0,    0,                       // inner[0]
      1,    0x56, 0x34, 0x9a, 0x78,                    // inner[1]
      1,    0,    0,    0,    8,    0,    0,    0,     // queue: its size, then what is in it
  };
  CHECK(BytesOf(Example()) == expected);
}

TEST_CASE("What was written is read back") {
  const std::vector<uint8_t> bytes = BytesOf(Example());
  FieldReader reader(bytes);
  Outer read;
  reader.Get(read);
  CHECK(reader.Complete());
  CHECK(read == Example());
}

TEST_CASE("Bytes that are missing or too many are noticed") {
  std::vector<uint8_t> bytes = BytesOf(Example());
  for (size_t length = 0; length < bytes.size(); ++length) {
    FieldReader reader{std::span(bytes).first(length)};
    Outer read;
    reader.Get(read);
    CHECK_FALSE(reader.Complete());
  }
  bytes.push_back(0);
  FieldReader reader(bytes);
  Outer read;
  reader.Get(read);
  CHECK(reader.ok());
  CHECK_FALSE(reader.Complete());
}

TEST_CASE("A bool that is neither, and a queue longer than it can be, are refused") {
  std::vector<uint8_t> bytes = BytesOf(Example());
  SECTION("bool") {
    bytes[12] = 2;
  }
  SECTION("queue") {
    bytes[22] = 4;
  }
  SECTION("long queue") {
    bytes[25] = 0xff;
  }
  FieldReader reader(bytes);
  Outer read;
  reader.Get(read);
  CHECK_FALSE(reader.Complete());
  CHECK(read.queue.Valid());
}

}  // namespace
}  // namespace vmm::test
