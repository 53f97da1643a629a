#include "legacy-devices/ps2_mouse.h"

#include <catch2/catch.hpp>
#include <vector>

using namespace legacy;
using Bytes = std::vector<uint8_t>;

namespace {

struct Plugged {
  Ps2MouseState state;
  Ps2Mouse mouse{state};

  Bytes Read() {
    Bytes got;
    while (mouse.HasOutput()) got.push_back(mouse.TakeOutput());
    return got;
  }
  Bytes Ask(uint8_t command) {
    mouse.Receive(command);
    return Read();
  }
  void SetRates(const Bytes& rates) {
    for (uint8_t rate : rates) {
      CHECK(Ask(0xF3) == Bytes{0xFA});
      CHECK(Ask(rate) == Bytes{0xFA});
    }
  }
};

}  // namespace

TEST_CASE("a mouse reset says that it passed its test and what it is") {  // [PS2] Mouse, Reset
  Plugged p;
  CHECK(p.Ask(0xFF) == Bytes{0xFA, 0xAA, 0x00});
  CHECK(p.Ask(0xE9) == Bytes{0xFA, 0x00, 0x02, 100});
}

TEST_CASE("a mouse tells its settings") {  // [PS2] Mouse, Status request
  Plugged p;
  CHECK(p.Ask(0xE7) == Bytes{0xFA});
  CHECK(p.Ask(0xE8) == Bytes{0xFA});
  CHECK(p.Ask(0x03) == Bytes{0xFA});
  CHECK(p.Ask(0xF0) == Bytes{0xFA});
  p.SetRates({60});
  p.mouse.Inject({.buttons = 1});
  CHECK(p.Ask(0xE9) == Bytes{0xFA, 0x54, 0x03, 60});
  CHECK(p.Ask(0xE6) == Bytes{0xFA});
  CHECK(p.Ask(0xEA) == Bytes{0xFA});
  CHECK(p.Ask(0xE9) == Bytes{0xFA, 0x04, 0x03, 60});
  CHECK(p.Ask(0xF6) == Bytes{0xFA});
  CHECK(p.Ask(0xE9) == Bytes{0xFA, 0x04, 0x02, 100});
}

TEST_CASE("a mouse that isn't enabled says nothing of its own accord") {
  Plugged p;
  p.mouse.Inject({.dx = 5});
  CHECK(p.Read().empty());
}

TEST_CASE("movement and buttons go into packets of three bytes") {  // [PS2] Mouse, Data report
  Plugged p;
  CHECK(p.Ask(0xF4) == Bytes{0xFA});
  p.mouse.Inject({.dx = 5, .dy = -3, .dz = 1, .buttons = 0x05});
  CHECK(p.Read() == Bytes{0x2D, 5, 0xFD});
  p.mouse.Inject({.buttons = 0});
  CHECK(p.Read() == Bytes{0x08, 0, 0});
}

TEST_CASE("movement that doesn't fit a packet goes on in the next") {
  Plugged p;
  p.Ask(0xF4);
  p.mouse.Inject({.dx = 300, .dy = -256});
  CHECK(p.Read() == Bytes{0x28, 255, 0x00, 0x08, 45, 0});
}

TEST_CASE("a series of sampling rates turns the wheel and the side buttons on") {  // [IMOUSE]
  Plugged p;
  p.SetRates({200, 100, 80});
  CHECK(p.Ask(0xF2) == Bytes{0xFA, 0x03});
  p.Ask(0xF4);
  p.mouse.Inject({.dx = 1, .dz = -1});
  CHECK(p.Read() == Bytes{0x08, 1, 0, 0xFF});
  p.SetRates({200, 200, 80});
  CHECK(p.Ask(0xF2) == Bytes{0xFA, 0x04});
  p.mouse.Inject({.dz = -1, .buttons = 0x18});
  CHECK(p.Read() == Bytes{0x08, 0, 0, 0x3F});
  CHECK(p.Ask(0xFF) == Bytes{0xFA, 0xAA, 0x00});
}

TEST_CASE("in remote mode a mouse reports when it is asked") {  // [PS2] Mouse, Read data
  Plugged p;
  p.Ask(0xF0);
  p.Ask(0xF4);
  p.mouse.Inject({.dx = 2});
  CHECK(p.Read().empty());
  CHECK(p.Ask(0xEB) == Bytes{0xFA, 0x08, 2, 0});
  CHECK(p.Ask(0xEB) == Bytes{0xFA, 0x08, 0, 0});
}

TEST_CASE("scaling 2:1 speeds up large movements in stream mode only") {  // [PS2] Mouse
  Plugged p;
  p.Ask(0xE7);
  p.Ask(0xF4);
  p.mouse.Inject({.dx = 2, .dy = -10});
  CHECK(p.Read() == Bytes{0x28, 1, 0xEC});
  p.Ask(0xF0);
  p.mouse.Inject({.dx = 10});
  CHECK(p.Ask(0xEB) == Bytes{0xFA, 0x08, 10, 0});
}

TEST_CASE("in wrap mode a mouse echoes all but what ends it") {  // [PS2] Mouse, Set wrap mode
  Plugged p;
  CHECK(p.Ask(0xEE) == Bytes{0xFA});
  CHECK(p.Ask(0xF2) == Bytes{0xF2});
  CHECK(p.Ask(0xEC) == Bytes{0xFA});
  CHECK(p.Ask(0xF2) == Bytes{0xFA, 0x00});
}

TEST_CASE("a command ends the packet that is under way, and a reset the wait for a parameter") {
  Plugged p;
  p.Ask(0xF4);
  p.mouse.Inject({.dx = 1});
  p.mouse.TakeOutput();
  CHECK(p.Ask(0xF5) == Bytes{0xFA});
  CHECK(p.Ask(0xF3) == Bytes{0xFA});
  CHECK(p.Ask(0xFF) == Bytes{0xFA, 0xAA, 0x00});
  CHECK(p.Ask(0xFE) == Bytes{0x00});  // the last byte again
  CHECK(p.Ask(0x01) == Bytes{0xFE});  // unknown
}
