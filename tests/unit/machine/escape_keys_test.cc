#include "vmm/machine/escape_keys.h"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "vmm/machine/console_tap.h"

namespace vmm {
namespace {

class FakeBackend final : public CharBackend {
 public:
  void Write(std::span<const uint8_t> data) override { written.append(data.begin(), data.end()); }
  void ResumeInput() override { ++resumed; }
  void SetReceiver(CharReceiver* new_receiver) override { receiver = new_receiver; }
  std::vector<uint8_t> WaitingInput() const override { return {behind.begin(), behind.end()}; }
  void ReturnInput(std::span<const uint8_t> input) override {
    behind.assign(input.begin(), input.end());
  }

  size_t Type(std::string_view text) {
    return receiver->OnInput({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
  }

  std::string written;
  unsigned resumed = 0;
  std::string behind;  // what is kept for EscapeKeys
  CharReceiver* receiver = nullptr;
};

class FakeGuest final : public CharReceiver {
 public:
  size_t OnInput(std::span<const uint8_t> data) override {
    const size_t taken = std::min(room, data.size());
    got.append(data.begin(), data.begin() + static_cast<long>(taken));
    room -= taken;
    return taken;
  }
  size_t room = 1000000;
  std::string got;
};

struct Console {
  FakeBackend terminal;
  FakeGuest guest;
  std::vector<std::function<void()>> posted;
  unsigned stops = 0, presses = 0, suspends = 0;
  EscapeKeys keys{terminal,
                  [this](std::function<void()> work) { posted.push_back(std::move(work)); },
                  {[this] { ++stops; }, [this] { ++presses; }, [this] { ++suspends; }}};

  Console() { keys.SetReceiver(&guest); }
  void RunPosted() {
    for (auto& work : std::exchange(posted, {})) work();
  }
};

TEST_CASE("Keys reach the guest unchanged, Ctrl-C and Ctrl-Z included") {
  Console console;
  CHECK(console.terminal.Type("ls -l\r\x03\x1a") == 8);
  CHECK(console.guest.got == "ls -l\r\x03\x1a");
}

TEST_CASE("Ctrl-A s suspends and reaches the guest in no part") {
  Console console;
  console.terminal.Type(
      "a\x01s"
      "b");
  CHECK(console.suspends == 1);
  CHECK(console.guest.got == "ab");
}

TEST_CASE("Ctrl-A x stops and Ctrl-A p presses the power button, however the keys arrive") {
  Console console;
  console.terminal.Type("a\x01xb");
  console.terminal.Type("\x01");
  console.terminal.Type("p");
  CHECK(console.stops == 1);
  CHECK(console.presses == 1);
  CHECK(console.guest.got == "ab");
}

TEST_CASE("Ctrl-A a and Ctrl-A Ctrl-A send one Ctrl-A; an unknown command sends nothing") {
  Console console;
  console.terminal.Type(
      "\x01"
      "a\x01\x01.\x01z.");
  CHECK(console.guest.got == "\x01\x01..");
}

TEST_CASE("Ctrl-A h explains the keys on the terminal") {
  Console console;
  console.terminal.Type("\x01h");
  CHECK(console.terminal.written.find("Ctrl-A x") != std::string::npos);
  CHECK(console.guest.got.empty());
}

TEST_CASE("The escape key works while the guest reads nothing, and what was typed is kept") {
  Console console;
  console.guest.room = 0;
  console.terminal.Type("reboot\r\x01p");
  CHECK(console.presses == 1);
  CHECK(console.guest.got.empty());

  console.guest.room = 3;
  console.keys.ResumeInput();
  console.RunPosted();
  CHECK(console.guest.got == "reb");
  console.guest.room = 100;
  console.keys.ResumeInput();
  console.RunPosted();
  CHECK(console.guest.got == "reboot\r");
}

TEST_CASE("When too much waits, the host side is stopped and started again, and nothing is lost") {
  Console console;
  console.guest.room = 0;
  std::string text;
  for (unsigned i = 0; i < EscapeKeys::kHeldBack + 100; ++i) {
    text.push_back(static_cast<char>('A' + i % 26));
  }
  const size_t taken = console.terminal.Type(text);
  CHECK(taken == EscapeKeys::kHeldBack);
  CHECK(console.terminal.resumed == 0);

  console.guest.room = 1000000;
  console.keys.ResumeInput();
  console.RunPosted();
  CHECK(console.terminal.resumed == 1);
  console.terminal.Type(std::string_view(text).substr(taken));
  CHECK(console.guest.got == text);
}

TEST_CASE(
    "What waits goes to another run with what the host side keeps, and is not searched again") {
  Console console;
  console.guest.room = 0;
  console.terminal.Type(std::string(EscapeKeys::kHeldBack - 2, 'x') + "\x01\x01s");
  console.terminal.behind = "behind";
  const std::vector<uint8_t> waiting = console.keys.WaitingInput();
  CHECK(waiting.size() == EscapeKeys::kHeldBack + 6);

  Console next;
  next.keys.ReturnInput(waiting);
  CHECK(next.terminal.behind == "behind");
  next.RunPosted();
  CHECK(next.guest.got == std::string(EscapeKeys::kHeldBack - 2, 'x') + "\x01s");
  CHECK(next.suspends == 0);
}

TEST_CASE("A console tap shows output to its observer and lets everything pass") {
  FakeBackend terminal;
  FakeGuest guest;
  std::string seen;
  ConsoleTap tap(terminal,
                 [&](std::span<const uint8_t> data) { seen.append(data.begin(), data.end()); });
  tap.SetReceiver(&guest);
  const std::string text = "hello";
  tap.Write({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
  terminal.Type("x");
  tap.ResumeInput();
  CHECK(seen == "hello");
  CHECK(terminal.written == "hello");
  CHECK(guest.got == "x");
  CHECK(terminal.resumed == 1);
}

}  // namespace
}  // namespace vmm
