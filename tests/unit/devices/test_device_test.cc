// The test device, as the libraries of kernel unit tests use it.
#include "legacy-devices/test_device.h"

#include <catch2/catch.hpp>
#include <vector>

#include "../support/fakes.h"

using namespace fakes;
using namespace legacy;

namespace {

struct Rig {
  TestDevice::Lines Lines() {
    TestDevice::Lines wires{};
    for (unsigned i = 0; i < wires.size(); ++i) wires[i] = i == 2 ? nullptr : &lines[i];
    return wires;
  }
  FakeIrqLine lines[24];
  std::vector<uint64_t> flushed;
  TestDevice device{Lines(), [this](vmm::GuestPhys page) { flushed.push_back(page.value); }};
};

}  // namespace

TEST_CASE("the test device's latch keeps bytes, words and doublewords where they were written") {
  Rig rig;
  Out(rig.device.latch(), 0, 0x12345678, 4);
  CHECK(In(rig.device.latch(), 0, 4) == 0x12345678);
  CHECK(In(rig.device.latch(), 0, 2) == 0x5678);
  CHECK(In(rig.device.latch(), 1, 1) == 0x56);
  Out(rig.device.byte_latch(), 0, 0xAB);
  CHECK(In(rig.device.latch(), 0, 4) == 0x123456AB);
  Out(rig.device.latch(), 3, 0xFFEE, 2);  // over its end
  CHECK(In(rig.device.latch(), 2, 4) == 0xFFFFEE34);
}

TEST_CASE("the test device raises and lowers interrupt lines, one a port") {
  Rig rig;
  Out(rig.device.lines(), 14, 1);
  CHECK(rig.lines[14].high);
  Out(rig.device.lines(), 2, 1);  // the cascade is no interrupt
  Out(rig.device.lines(), 24, 1);
  Out(rig.device.lines(), 23, 0x80, 4);
  CHECK(rig.lines[23].high);
  Out(rig.device.lines(), 14, 0);
  CHECK_FALSE(rig.lines[14].high);
  CHECK(In(rig.device.lines(), 0, 4) == 0xFFFFFFFF);
}

TEST_CASE("the test device flushes the page of an address that is written whole") {
  Rig rig;
  Out(rig.device.flush(), 0, 0x00123FFC, 4);
  Out(rig.device.flush(), 0, 0x55, 1);
  Out(rig.device.flush(), 1, 0x55, 4);
  CHECK(rig.flushed == std::vector<uint64_t>{0x123000});
}

TEST_CASE("the test device's memory keeps what is written, in any size") {
  Rig rig;
  Out(rig.device.memory(), 0x100, 0x1122334455667788, 8);
  CHECK(In(rig.device.memory(), 0x103, 4) == 0x22334455);
  CHECK(In(rig.device.memory(), 0xFFFF, 2) == 0xFF00);
}

TEST_CASE("the test device is saved, loaded and refused when impossible") {
  Rig a;
  Out(a.device.latch(), 0, 7, 4);
  Out(a.device.lines(), 5, 1);
  Out(a.device.memory(), 9, 9);
  auto saved = std::make_unique<TestDeviceState>(a.device.Save());
  Rig b;
  Out(b.device.lines(), 6, 1);
  REQUIRE(b.device.Load(*saved));
  CHECK(b.device.Save() == *saved);
  CHECK(b.lines[5].high);
  CHECK_FALSE(b.lines[6].high);
  b.device.Reset();
  CHECK_FALSE(b.lines[5].high);
  CHECK(b.device.Save() == TestDeviceState{});
  SECTION("version") {
    saved->version = 2;
  }
  SECTION("more lines than there are") {
    saved->lines = 1u << 24;
  }
  SECTION("a line that leads nowhere") {
    saved->lines = 1u << 2;
  }
  CHECK_FALSE(b.device.Load(*saved));
}
