#include "vmm/core/bus/bus.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

using vmm::Bus;

// Answers each byte with (tag + offset) and remembers what was asked.
class EchoDevice : public vmm::Device {
 public:
  explicit EchoDevice(uint8_t tag, std::string name = "echo") : tag_(tag), name_(std::move(name)) {}
  std::string_view name() const override { return name_; }
  void Read(uint64_t offset, std::span<uint8_t> data) override {
    reads.emplace_back(offset, data.size());
    for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<uint8_t>(tag_ + offset + i);
  }
  void Write(uint64_t offset, std::span<const uint8_t> data) override {
    for (size_t i = 0; i < data.size(); ++i) writes.emplace_back(offset + i, data[i]);
    last_write_size = data.size();
  }

  std::vector<std::pair<uint64_t, size_t>> reads;
  std::vector<std::pair<uint64_t, uint8_t>> writes;
  size_t last_write_size = 0;

 private:
  uint8_t tag_;
  std::string name_;
};

uint32_t Read32(const Bus& bus, uint64_t address) {
  uint8_t data[4] = {};
  bus.Read(address, data);
  return data[0] | data[1] << 8 | data[2] << 16 | static_cast<uint32_t>(data[3]) << 24;
}

TEST_CASE("An access inside a range reaches its device with the offset and the whole size") {
  Bus bus(0x10000);
  EchoDevice device(0x10);
  REQUIRE(bus.Attach(0x3f8, 8, device));
  REQUIRE(Read32(bus, 0x3f9) == 0x14131211);
  REQUIRE(device.reads == std::vector<std::pair<uint64_t, size_t>>{{1, 4}});
  const uint8_t data[] = {0xaa, 0xbb};
  bus.Write(0x3fe, data);
  REQUIRE(device.last_write_size == 2);
  REQUIRE(device.writes == std::vector<std::pair<uint64_t, uint8_t>>{{6, 0xaa}, {7, 0xbb}});
}

TEST_CASE("An address without a device reads all ones and swallows writes") {
  Bus bus(0x10000);
  REQUIRE(Read32(bus, 0x80) == 0xffffffff);
  const uint8_t data[8] = {};
  bus.Write(0xffff, data);  // runs over the end of the bus, too
  REQUIRE(Read32(bus, 0xffff) == 0xffffffff);
  Bus whole(~uint64_t{0});
  REQUIRE(Read32(whole, ~uint64_t{0} - 1) == 0xffffffff);
}

TEST_CASE("An access over the end of a range is split into bytes between its neighbours") {
  Bus bus(0x10000);
  EchoDevice first(0x10), second(0x80);
  REQUIRE(bus.Attach(0x60, 1, first));
  REQUIRE(bus.Attach(0x62, 1, second));
  REQUIRE(Read32(bus, 0x60) == 0xff80ff10);
  REQUIRE(first.reads == std::vector<std::pair<uint64_t, size_t>>{{0, 1}});
  const uint8_t data[] = {1, 2, 3, 4};
  bus.Write(0x60, data);
  REQUIRE(first.writes == std::vector<std::pair<uint64_t, uint8_t>>{{0, 1}});
  REQUIRE(second.writes == std::vector<std::pair<uint64_t, uint8_t>>{{0, 3}});
}

TEST_CASE("An access that begins before a range still reaches it") {
  Bus bus(0x10000);
  EchoDevice device(0x40);
  REQUIRE(bus.Attach(0x72, 2, device));
  REQUIRE(Read32(bus, 0x70) == 0x4140ffff);
  REQUIRE(Read32(bus, 0x6e) == 0xffffffff);
}

TEST_CASE("Overlapping, empty and outside ranges are refused with the device's name") {
  Bus bus(0x10000);
  EchoDevice device(0, "serial0"), other(0, "serial1");
  REQUIRE(bus.Attach(0x3f8, 8, device));
  for (auto [start, length] : std::vector<std::pair<uint64_t, uint64_t>>{
           {0x3f8, 8}, {0x3f0, 9}, {0x3ff, 1}, {0x3f0, 0x100}, {0x3fa, 1}}) {
    auto result = bus.Attach(start, length, other);
    REQUIRE_FALSE(result);
    REQUIRE(result.error().message.find("serial1") != std::string::npos);
    REQUIRE(result.error().message.find("serial0") != std::string::npos);
  }
  REQUIRE_FALSE(bus.Attach(0x400, 0, other));
  REQUIRE_FALSE(bus.Attach(0xffff, 2, other));
  REQUIRE_FALSE(bus.Attach(~uint64_t{0}, 2, other));
  REQUIRE(bus.Attach(0x3f0, 8, other));
  REQUIRE(bus.Attach(0x400, 8, other));
  REQUIRE(bus.Attach(0xffff, 1, other));
}

TEST_CASE("A full bus refuses one more range") {
  Bus bus(0x10000);
  EchoDevice device(0);
  for (unsigned i = 0; i < Bus::kMaxRanges; ++i) REQUIRE(bus.Attach(0x8000 - i * 2, 1, device));
  REQUIRE_FALSE(bus.Attach(0x9000, 1, device));
}

TEST_CASE("Ranges lists what is attached in address order; Detach removes one") {
  Bus bus(0x10000);
  EchoDevice device(0);
  for (uint64_t start : {0x70, 0x20, 0xa0, 0x40}) REQUIRE(bus.Attach(start, 2, device));
  bus.Detach(0x41);  // not the start of a range: nothing happens
  bus.Detach(0x40);
  std::array<Bus::Range, 8> ranges;
  REQUIRE(bus.Ranges(ranges) == 3);
  REQUIRE(ranges[0].start == 0x20);
  REQUIRE(ranges[1].start == 0x70);
  REQUIRE(ranges[2].start == 0xa0);
  Bus::Range found{};
  REQUIRE(bus.Find(0x71, &found));
  REQUIRE(found.start == 0x70);
  REQUIRE_FALSE(bus.Find(0x72, &found));
  REQUIRE_FALSE(bus.Find(0x40, &found));
  REQUIRE(bus.Ranges(std::span(ranges).first(1)) == 1);
}

TEST_CASE("A reader never sees another range's device while ranges come and go", "[threads]") {
  Bus bus(0x10000);
  EchoDevice low(0x11), high(0x22), moving(0x33);
  REQUIRE(bus.Attach(0x100, 1, low));
  REQUIRE(bus.Attach(0x300, 1, high));
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    while (!stop) {
      CHECK(bus.Attach(0x50, 1, moving));
      bus.Detach(0x50);
    }
  });
  for (int i = 0; i < 20000; ++i) {
    uint8_t data[1];
    bus.Read(0x300, data);
    if (data[0] != 0x22) FAIL("read " << unsigned{data[0]});
    bus.Read(0x100, data);
    if (data[0] != 0x11) FAIL("read " << unsigned{data[0]});
    high.reads.clear();
    low.reads.clear();
  }
  stop = true;
  writer.join();
}

}  // namespace
