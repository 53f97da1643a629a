#include "legacy-devices/i8042.h"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "../support/fakes.h"

using namespace fakes;
using namespace legacy;
using Bytes = std::vector<uint8_t>;

namespace {

// A board with a driver's view of the controller.
struct Board {
  FakeIrqLine kbd, aux;
  int resets = 0;
  A20Gate a20{[](bool) {}};
  I8042 controller{kbd, aux, [this](std::string_view) { ++resets; }, a20};

  uint8_t Status() { return static_cast<uint8_t>(In(controller.command_port(), 0)); }
  uint8_t Data() { return static_cast<uint8_t>(In(controller.data_port(), 0)); }
  void Command(uint8_t value) { Out(controller.command_port(), 0, value); }
  void Send(uint8_t value) { Out(controller.data_port(), 0, value); }
  void Mouse(uint8_t value) {
    Command(0xD4);
    Send(value);
  }
  void SetCtr(uint8_t ctr) {
    Command(0x60);
    Send(ctr);
  }
  uint8_t Ctr() {
    Command(0x20);
    return Data();
  }
  // All bytes that wait, with the check that they are the right device's.
  Bytes Read(bool from_aux = false) {
    Bytes got;
    while (Status() & 0x01) {
      CHECK(((Status() & 0x20) != 0) == from_aux);
      got.push_back(Data());
    }
    return got;
  }
  Bytes AskKeyboard(uint8_t command) {
    Send(command);
    return Read();
  }
  Bytes AskMouse(uint8_t command) {
    Mouse(command);
    return Read(true);
  }
  bool Key(const Bytes& codes) { return controller.InjectKey(codes); }
};

}  // namespace

TEST_CASE("the controller starts as a BIOS leaves it") {
  Board b;
  CHECK(b.Status() == 0x14);  // unlocked, self test passed, nothing to read
  CHECK(b.Ctr() == 0x47);
  CHECK(b.Read().empty());
}

TEST_CASE("the controller answers its tests") {  // [PS2] controller commands
  Board b;
  const auto [command, reply] = GENERATE(table<uint8_t, uint8_t>(
      {{0xAA, 0x55}, {0xAB, 0x00}, {0xA9, 0x00}, {0xA4, 0xF1}, {0xC0, 0xB0}}));
  b.Command(command);
  CHECK(b.Status() == (0x14 | 0x08 | 0x01));  // A2: the last write was a command
  CHECK(b.Data() == reply);
  CHECK((b.Status() & 0x01) == 0);
  CHECK(b.Data() == reply);  // the buffer keeps its byte
}

TEST_CASE("enable and disable commands show in the command byte") {
  Board b;
  b.SetCtr(0x00);
  b.Command(0xA7);
  CHECK(b.Ctr() == 0x20);
  b.Command(0xAD);
  CHECK(b.Ctr() == 0x30);
  b.Command(0xA8);
  b.Command(0xAE);
  CHECK(b.Ctr() == 0x00);
  b.SetCtr(0xFF);
  CHECK(b.Ctr() == 0x7F);
}

TEST_CASE("the controller's RAM holds thirty-one bytes more") {
  Board b;
  for (uint8_t i = 1; i < 32; ++i) {
    b.Command(static_cast<uint8_t>(0x60 + i));
    b.Send(static_cast<uint8_t>(0xC0 + i));
  }
  for (uint8_t i = 1; i < 32; ++i) {
    b.Command(static_cast<uint8_t>(0x20 + i));
    CHECK(b.Data() == 0xC0 + i);
  }
  CHECK(b.Ctr() == 0x47);
}

TEST_CASE("the output port shows A20 and the buffers, and resets by its lowest bit") {
  Board b;
  b.Command(0xD0);
  CHECK(b.Data() == 0xC3);
  b.Command(0xD1);
  b.Send(0xDD);
  b.Command(0xD0);
  CHECK((b.Data() & 0x02) == 0);
  CHECK_FALSE(b.a20.open());
  b.Command(0xDF);
  CHECK(b.a20.open());
  b.Command(0xDD);
  CHECK_FALSE(b.a20.open());
  b.a20.Set(true);  // by port 0x92
  b.Command(0xD0);
  CHECK((b.Data() & 0x02) != 0);
  CHECK(b.resets == 0);
  b.Command(0xD1);
  b.Send(0xFE);
  CHECK(b.resets == 1);
}

TEST_CASE("pulsing the reset line resets the machine, pulsing no line doesn't") {
  Board b;
  b.Command(0xFF);
  b.Command(0xF1);
  CHECK(b.resets == 0);
  b.Command(0xFE);
  CHECK(b.resets == 1);
}

TEST_CASE("the keyboard answers every command at once") {  // [PS2] Keyboard, commands
  Board b;
  b.SetCtr(0x05);  // untranslated
  CHECK(b.AskKeyboard(0xFF) == Bytes{0xFA, 0xAA});
  CHECK(b.AskKeyboard(0xF2) == Bytes{0xFA, 0xAB, 0x83});
  CHECK(b.AskKeyboard(0xEE) == Bytes{0xEE});
  CHECK(b.AskKeyboard(0xED) == Bytes{0xFA});
  CHECK(b.AskKeyboard(0x07) == Bytes{0xFA});
  CHECK(b.AskKeyboard(0xF3) == Bytes{0xFA});
  CHECK(b.AskKeyboard(0x00) == Bytes{0xFA});
  CHECK(b.AskKeyboard(0xF0) == Bytes{0xFA});
  CHECK(b.AskKeyboard(0x00) == Bytes{0xFA, 0x02});
  CHECK(b.AskKeyboard(0xF5) == Bytes{0xFA});
  CHECK(b.AskKeyboard(0xF6) == Bytes{0xFA});
  CHECK(b.AskKeyboard(0xF4) == Bytes{0xFA});
  CHECK(b.AskKeyboard(0xFE) == Bytes{0xFA});  // the last byte again
  CHECK(b.AskKeyboard(0xE5) == Bytes{0xFE});  // unknown
}

TEST_CASE("a keyboard command where a parameter is due takes its place") {
  Board b;
  CHECK(b.AskKeyboard(0xED) == Bytes{0xFA});
  CHECK(b.AskKeyboard(0xFF) == Bytes{0xFA, 0xAA});
}

TEST_CASE("with translation the second byte of the keyboard's identity becomes 0x41") {
  Board b;  // [8042]: as Linux sees it on every PC
  CHECK(b.AskKeyboard(0xF2) == Bytes{0xFA, 0xAB, 0x41});
}

TEST_CASE("keys arrive in scan set 1 through translation, in set 2 without") {
  Board b;
  CHECK(b.Key({0x1C}));        // A pressed
  CHECK(b.Key({0xF0, 0x1C}));  // and released
  CHECK(b.Key({0xE0, 0x75}));  // up
  CHECK(b.Read() == Bytes{0x1E, 0x9E, 0xE0, 0x48});
  b.SetCtr(0x05);
  CHECK(b.Key({0xF0, 0x1C}));
  CHECK(b.Read() == Bytes{0xF0, 0x1C});
  CHECK(b.AskKeyboard(0xF0) == Bytes{0xFA});  // a keyboard set to scan set 1 itself
  CHECK(b.AskKeyboard(0x01) == Bytes{0xFA});
  CHECK(b.Key({0xE0, 0xF0, 0x75}));
  CHECK(b.Read() == Bytes{0xE0, 0xC8});
}

TEST_CASE("the translation maps the keys as every PC does") {                   // [8042]
  const auto [set2, set1] = GENERATE(table<uint8_t, uint8_t>({{0x76, 0x01},     // Esc
                                                              {0x16, 0x02},     // 1
                                                              {0x15, 0x10},     // Q
                                                              {0x5A, 0x1C},     // Enter
                                                              {0x14, 0x1D},     // Ctrl
                                                              {0x12, 0x2A},     // left Shift
                                                              {0x29, 0x39},     // space
                                                              {0x05, 0x3B},     // F1
                                                              {0x83, 0x41},     // F7
                                                              {0x07, 0x58},     // F12
                                                              {0x77, 0x45},     // Num Lock
                                                              {0x71, 0x53},     // Del
                                                              {0xE0, 0xE0}}));  // prefix
  CHECK(ScanSet1Of(set2) == set1);
}

TEST_CASE("a key that has no room is left to the host, a key while scanning is off is lost") {
  Board b;
  b.SetCtr(0x15);  // the keyboard's clock is held
  int keys = 0;
  while (b.Key({0xE0, 0x75})) ++keys;
  CHECK(keys == 8);
  b.Command(0xAE);
  CHECK(b.Read().size() == 16);
  CHECK(b.AskKeyboard(0xF5) == Bytes{0xFA});
  CHECK(b.Key({0x1C}));
  CHECK(b.Read().empty());
}

TEST_CASE("each byte of the keyboard is an edge on IRQ 1 while KBDINT is set") {
  Board b;
  b.Key({0x1C});
  b.Key({0x1B});
  CHECK(b.kbd.high);
  CHECK(b.kbd.rises == 1);
  b.Data();
  CHECK(b.kbd.rises == 2);
  b.Data();
  CHECK_FALSE(b.kbd.high);
  b.SetCtr(0x44);
  b.Key({0x1C});
  CHECK_FALSE(b.kbd.high);
  CHECK(b.Status() & 0x01);
  b.SetCtr(0x45);
  CHECK(b.kbd.high);
  CHECK(b.aux.rises == 0);
}

TEST_CASE("a disabled keyboard keeps its keys until it is enabled") {
  Board b;
  b.Command(0xAD);
  b.Key({0x1C});
  CHECK((b.Status() & 0x01) == 0);
  b.Command(0xAE);
  CHECK(b.Read() == Bytes{0x1E});
}

TEST_CASE("bytes can be written to the output buffers as if the devices had sent them") {
  Board b;
  b.Command(0xD2);
  b.Send(0x5A);
  CHECK(b.kbd.high);
  CHECK(b.Read() == Bytes{0x5A});  // untranslated
  b.Command(0xD3);
  b.Send(0xA5);
  CHECK(b.aux.high);
  CHECK_FALSE(b.kbd.high);
  CHECK(b.Read(true) == Bytes{0xA5});
}

TEST_CASE("Linux's i8042 driver finds both ports without waiting") {
  // drivers/input/serio/i8042.c, in its order
  Board b;
  CHECK((b.Status() & 0x01) == 0);  // i8042_flush
  b.Command(0xAA);                  // i8042_controller_selftest
  CHECK(b.Data() == 0x55);
  const uint8_t ctr = b.Ctr();  // i8042_controller_init
  CHECK((b.Status() & 0x10) != 0);
  CHECK((ctr & 0x40) != 0);
  uint8_t now = (ctr | 0x10) & ~0x01;
  b.SetCtr(now);

  b.Command(0xD3);  // i8042_check_aux: the loop comes back marked as the mouse's
  b.Send(0x5A);
  CHECK((b.Status() & 0x21) == 0x21);
  CHECK(b.Data() == 0x5A);
  b.Command(0xA7);
  CHECK((b.Ctr() & 0x20) != 0);
  b.Command(0xA8);
  CHECK((b.Ctr() & 0x20) == 0);
  now = static_cast<uint8_t>((now & ~0x20) | 0x02);
  b.SetCtr(now);
  const int before = b.aux.rises;
  b.Command(0xD3);  // the test of IRQ 12
  b.Send(0xA5);
  CHECK(b.aux.rises == before + 1);
  CHECK(b.Data() == 0xA5);
  for (uint8_t probe : {0xF0, 0x56, 0xA4}) {  // i8042_check_mux: plain echo, so no multiplexer
    b.Command(0xD3);
    b.Send(probe);
    CHECK(b.Data() == probe);
  }
  b.SetCtr(static_cast<uint8_t>((now & ~0x10) | 0x01));  // both ports on

  // atkbd_probe and atkbd_activate, by interrupt
  CHECK(b.AskKeyboard(0xF2) == Bytes{0xFA, 0xAB, 0x41});
  CHECK(b.AskKeyboard(0xF5) == Bytes{0xFA});
  for (uint8_t byte : {0xED, 0x00, 0xF3, 0x00, 0xF4}) CHECK(b.AskKeyboard(byte) == Bytes{0xFA});
  // psmouse_probe
  CHECK(b.AskMouse(0xF2) == Bytes{0xFA, 0x00});
  CHECK(b.AskMouse(0xF6) == Bytes{0xFA});
  CHECK(b.AskMouse(0xFF) == Bytes{0xFA, 0xAA, 0x00});
}

TEST_CASE("accesses of any size at any offset are answered") {
  Board b;
  CHECK(In(b.controller.command_port(), 0, 4) == 0xFFFFFF14);
  CHECK(In(b.controller.data_port(), 1, 2) == 0xFFFF);
  Out(b.controller.command_port(), 1, 0xFEFE, 2);
  CHECK(b.resets == 0);
}

TEST_CASE("a saved controller continues in the middle of everything") {
  Board a;
  a.SetCtr(0x47);
  a.Key({0x1C});
  a.Key({0xF0, 0x1C});
  a.Mouse(0xF3);
  a.Send(0xED);
  a.Command(0xD1);
  const I8042State saved = a.controller.Save();

  Board b;
  REQUIRE(b.controller.Load(saved));
  CHECK(b.controller.Save() == saved);
  CHECK(b.kbd.high);
  b.Send(0xDF);  // the parameter of 0xD1
  CHECK(b.resets == 0);
  CHECK(b.Data() == 0x1E);
  CHECK(b.Data() == 0xFA);  // of 0xED
  CHECK(b.Data() == 0x9E);
  CHECK(b.Data() == 0xFA);  // the mouse's, of 0xF3
  b.Mouse(40);
  CHECK(b.Data() == 0xFA);
  CHECK(b.controller.Save().mouse.sampling_rate == 40);
}

TEST_CASE("a saved state that no keyboard controller could be in is refused") {
  Board b;
  const I8042State before = b.controller.Save();
  I8042State bad = before;
  SECTION("version") {
    bad.version = 7;
  }
  SECTION("CTR") {
    bad.CTR = vmm::BitRegister<i8042::Ctr>(0x80);
  }
  SECTION("waiting") {
    bad.waiting = 0xAA;
  }
  SECTION("keyboard waiting") {
    bad.keyboard.waiting = ps2::KeyboardCommand::Reset;
  }
  SECTION("scan set") {
    bad.keyboard.scan_set = 3;
  }
  SECTION("LEDs") {
    bad.keyboard.leds = 8;
  }
  SECTION("typematic") {
    bad.keyboard.typematic = 0x80;
  }
  SECTION("mouse waiting") {
    bad.mouse.waiting = ps2::MouseCommand::Reset;
  }
  SECTION("mouse identity") {
    bad.mouse.id = static_cast<ps2::MouseId>(2);
  }
  SECTION("resolution") {
    bad.mouse.resolution = 4;
  }
  SECTION("movement") {
    bad.mouse.dx = 1 << 20;
  }
  SECTION("buttons") {
    bad.mouse.buttons = 0x20;
  }
  SECTION("reported buttons") {
    bad.mouse.reported_buttons = 0xFF;
  }
  CHECK_FALSE(b.controller.Load(bad));
  CHECK(b.controller.Save() == before);
}

TEST_CASE("reset unplugs nothing and forgets everything") {
  Board b;
  b.AskMouse(0xF4);
  b.SetCtr(0x00);
  b.Key({0x1C});
  b.controller.Reset();
  CHECK(b.Status() == 0x14);
  CHECK(b.Ctr() == 0x47);
  CHECK_FALSE(b.kbd.high);
  CHECK(b.AskMouse(0xF2) == Bytes{0xFA, 0x00});
}

TEST_CASE("random accesses leave a controller in a state that it would load itself") {
  Board b;
  Random random(3);
  for (int i = 0; i < 30000; ++i) {
    vmm::Device& port = random.Below(2) ? b.controller.data_port() : b.controller.command_port();
    const size_t size = size_t{1} << random.Below(4);
    switch (random.Below(5)) {
      case 0:
      case 1:
        In(port, random.Below(8) == 0 ? 1 : 0, size);
        break;
      case 2:
      case 3:
        Out(port, 0, random.Below(2) ? 0xD4 : random.Next(), size);
        break;
      case 4:
        if (random.Below(2))
          b.Key({0xE0, static_cast<uint8_t>(random.Next())});
        else
          b.controller.InjectMouse({static_cast<int>(random.Below(2000)) - 1000,
                                    static_cast<int>(random.Next()), 1,
                                    static_cast<uint8_t>(random.Next())});
        break;
    }
    if (i % 100 == 0) REQUIRE(b.controller.Load(b.controller.Save()));
  }
}
