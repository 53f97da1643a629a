// The devices that are a port and no more.
#include <catch2/catch.hpp>
#include <vector>

#include "../support/fakes.h"
#include "legacy-devices/debug_console.h"
#include "legacy-devices/debug_exit.h"
#include "legacy-devices/post_port.h"
#include "legacy-devices/pvpanic.h"

using namespace fakes;
using namespace legacy;

TEST_CASE("the debug-exit port passes on the whole value at each size") {
  std::vector<uint32_t> values;
  DebugExit port([&](uint32_t value) { values.push_back(value); });
  Out(port, 0, 0x12345678, 1);
  Out(port, 0, 0x12345678, 2);
  Out(port, 0, 0x12345678, 4);
  Out(port, 0, 0x9'12345678, 8);
  CHECK(values == std::vector<uint32_t>{0x78, 0x5678, 0x12345678, 0x12345678});
  Out(port, 1, 1, 1);
  CHECK(values.size() == 4);
  CHECK(In(port, 0, 4) == 0);
}

TEST_CASE("pvpanic says which events it takes and reports those") {  // [PVPANIC]
  std::vector<uint8_t> events;
  PvPanic port([&](PvPanic::Events e) { events.push_back(e.raw()); });
  CHECK(In(port, 0) == 0x03);
  Out(port, 0, 0x01);
  Out(port, 0, 0x02);
  Out(port, 0, 0xFC);
  Out(port, 1, 0x01);
  CHECK(events == std::vector<uint8_t>{0x01, 0x02});
  CHECK(In(port, 0, 2) == 0xFF03);
}

TEST_CASE("the debug console prints and can be recognised") {
  FakeCharBackend backend;
  DebugConsole port("debug-console", backend);
  CHECK(In(port, 0) == 0xE9);
  for (char c : std::string("SeaBIOS")) Out(port, 0, static_cast<uint8_t>(c));
  Out(port, 0, 0x4241, 2);  // the second byte is the next port's
  Out(port, 1, 'x');
  CHECK(backend.output == "SeaBIOSA");
}

TEST_CASE("the POST port gives back the last code") {
  PostPort port;
  Out(port, 0, 0x55);
  CHECK(In(port, 0) == 0x55);
  CHECK(port.last_code() == 0x55);
  Out(port, 3, 0x66, 4);
  CHECK(In(port, 0, 4) == 0xFFFFFF55);
}
