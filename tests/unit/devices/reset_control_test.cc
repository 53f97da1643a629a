#include "legacy-devices/reset_control.h"

#include <catch2/catch.hpp>
#include <string>

#include "../support/fakes.h"

using namespace fakes;
using namespace legacy;

namespace {

struct Board {
  int resets = 0;
  std::string source;
  int moves = 0;
  A20Gate a20{[this](bool) { ++moves; }};
  ResetControl control{[this](std::string_view from) {
                         ++resets;
                         source = from;
                       },
                       a20};
};

}  // namespace

TEST_CASE("RC resets when RCPU rises") {  // [PIIX3] RC
  Board b;
  vmm::Device& rc = b.control.reset_control();
  CHECK(In(rc, 0) == 0x00);
  Out(rc, 0, 0x02);  // hard reset chosen, as Linux does first
  CHECK(b.resets == 0);
  CHECK(In(rc, 0) == 0x02);
  Out(rc, 0, 0x06);
  CHECK(b.resets == 1);
  CHECK(b.source == "port 0xCF9");
  Out(rc, 0, 0x0E);  // already set: no rise
  CHECK(b.resets == 1);
}

TEST_CASE("port 0x92 resets when its low bit rises, and moves the gate of A20") {
  Board b;
  vmm::Device& port = b.control.port_a();
  CHECK(In(port, 0) == 0x02);
  Out(port, 0, 0x00);
  CHECK(In(port, 0) == 0x00);
  CHECK_FALSE(b.a20.open());
  Out(port, 0, 0x00);
  CHECK(b.moves == 1);
  b.a20.Set(true);  // by the keyboard controller
  CHECK(In(port, 0) == 0x02);
  Out(port, 0, 0x00);
  Out(port, 0, 0x02);
  CHECK(b.a20.open());
  CHECK(b.moves == 4);
  CHECK(b.resets == 0);
  Out(port, 0, 0x03);
  CHECK(b.resets == 1);
  CHECK(b.source == "port 0x92");
}

TEST_CASE("reset registers answer accesses of any size at any offset") {
  Board b;
  for (vmm::Device* part : {&b.control.reset_control(), &b.control.port_a()}) {
    Out(*part, 1, 0xFF, 4);
    CHECK(In(*part, 1, 8) == ~uint64_t{0});
  }
  CHECK(In(b.control.port_a(), 0, 2) == 0xFF02);
  CHECK(b.resets == 0);
}

TEST_CASE("reset registers are saved, loaded and refused when impossible") {
  Board a;
  Out(a.control.reset_control(), 0, 0x02);
  Out(a.control.port_a(), 0, 0x01);
  ResetControlState saved = a.control.Save();
  Board b;
  REQUIRE(b.control.Load(saved));
  CHECK(b.control.Save() == saved);
  CHECK(b.resets == 0);
  saved.RC = vmm::BitRegister<reset_control::RC>(0xF0);
  CHECK_FALSE(b.control.Load(saved));
  b.control.Reset();
  CHECK(In(b.control.port_a(), 0) == 0x02);
}

TEST_CASE("the gate of A20 is saved, loaded and opened by a reset") {
  std::string moves;
  A20Gate gate{[&moves](bool open) { moves += open ? 'o' : 'c'; }};
  gate.Set(false);
  A20GateState saved = gate.Save();
  gate.Reset();
  CHECK(gate.open());
  REQUIRE(gate.Load(saved));
  CHECK_FALSE(gate.open());
  CHECK(moves == "coc");
  saved.version = 2;
  CHECK_FALSE(gate.Load(saved));
}
