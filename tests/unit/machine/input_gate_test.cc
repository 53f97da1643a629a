#include "vmm/machine/input_gate.h"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "../../support/fake_clock.h"

namespace vmm::test {
namespace {

struct Host final : CharBackend {
  void Write(std::span<const uint8_t> data) override { written.append(data.begin(), data.end()); }
  void ResumeInput() override { ++resumed; }
  void SetReceiver(CharReceiver* to) override { receiver = to; }
  size_t Type(std::string_view text) {
    return receiver->OnInput({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
  }
  std::string written;
  int resumed = 0;
  CharReceiver* receiver = nullptr;
};

struct Port final : CharReceiver {
  size_t OnInput(std::span<const uint8_t> data) override {
    const size_t taken = std::min(room, data.size());
    got.append(data.begin(), data.begin() + static_cast<ptrdiff_t>(taken));
    room -= taken;
    return taken;
  }
  size_t room = 16;
  std::string got;
};

struct Rig {
  Rig() { gate.SetReceiver(&port); }
  FakeClock clock;
  FakeTimers timers{clock};
  Host host;
  Port port;
  std::vector<std::string> posted;
  InputGate gate{host, clock, timers, [this](std::string bytes) { posted.push_back(bytes); }};
};

}  // namespace

TEST_CASE("a gate hands what is typed to the machine's time, not to the port") {
  Rig rig;
  CHECK(rig.host.Type("ls") == 2);
  CHECK(rig.port.got.empty());
  REQUIRE(rig.posted == std::vector<std::string>{"ls"});
  rig.gate.Deliver("ls");
  CHECK(rig.port.got == "ls");
}

TEST_CASE("a gate keeps what the port has no room for until it says that it has") {
  Rig rig;
  rig.port.room = 3;
  rig.gate.Deliver("abcdef");
  CHECK(rig.port.got == "abc");
  CHECK(rig.gate.waiting() == "def");
  rig.port.room = 2;
  rig.gate.ResumeInput();
  CHECK(rig.port.got == "abc");  // not under the port's lock
  rig.timers.Advance(Nanoseconds(0));
  CHECK(rig.port.got == "abcde");
  CHECK(rig.gate.waiting() == "f");
}

TEST_CASE("a gate holds a flood back and lets it go on") {
  Rig rig;
  const std::string flood(10'000, 'x');
  CHECK(rig.host.Type(flood) == 4096);
  CHECK(rig.host.Type("y") == 0);
  CHECK(rig.host.resumed == 0);
  rig.port.room = 100;
  rig.gate.Deliver(rig.posted[0]);
  CHECK(rig.host.resumed == 1);
  CHECK(rig.host.Type(flood) == 100);
}

TEST_CASE("a gate lets what the guest prints pass") {
  Rig rig;
  const uint8_t text[] = {'h', 'i'};
  rig.gate.Write(text);
  CHECK(rig.host.written == "hi");
}

}  // namespace vmm::test
