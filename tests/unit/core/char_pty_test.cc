#include "vmm/core/host/char_pty.h"

#include <fcntl.h>
#include <termios.h>

#include <chrono>
#include <thread>

#include "char_fakes.h"

namespace vmm::test {
namespace {

struct PtyConsole {
  PtyConsole() : console(*OpenCharBackend({.kind = Kind::kPty, .name = "serial0"}, *loop)) {}
  ~PtyConsole() { loop.Stop(); }
  UniqueFd OpenTerminal() const {
    UniqueFd fd(open(console->Where().c_str(), O_RDWR | O_NOCTTY | O_CLOEXEC));
    REQUIRE(fd);
    return fd;
  }
  ConsoleLoop loop;
  std::unique_ptr<CharBackend> console;
};

TEST_CASE("A pty console says where it is and carries both directions unchanged",
          "[console][threads]") {
  PtyConsole p;
  CHECK_THAT(p.console->Where(), Catch::StartsWith("/dev/pts/"));
  Guest guest;
  p.console->SetReceiver(&guest);
  const UniqueFd terminal = p.OpenTerminal();
  Print(*p.console, "login:\n\r\x01");
  CHECK(ReadFrom(terminal.get(), 9) == "login:\n\r\x01");
  REQUIRE(write(terminal.get(), "root\r\x03\x04", 7) == 7);
  CHECK(guest.Wait(7) == "root\r\x03\x04");
}

TEST_CASE("Nobody on a pty stops nobody, and the first reader gets the last 64 KiB",
          "[console][threads]") {
  PtyConsole p;
  const std::string text = Lines(1'000'000);
  for (size_t at = 0; at < text.size(); at += 16) Print(*p.console, text.substr(at, 16));
  const UniqueFd terminal = p.OpenTerminal();
  const std::string last = text.substr(text.size() - CharOutput::kRingSize);
  CHECK(ReadFrom(terminal.get(), last.size()) == last);
}

TEST_CASE("A reader of a pty that never reads stops neither the guest nor the end",
          "[console][threads]") {
  PtyConsole p;
  const UniqueFd terminal = p.OpenTerminal();
  const std::string text = Lines(1'000'000);
  const auto start = std::chrono::steady_clock::now();
  for (size_t at = 0; at < text.size(); at += 16) Print(*p.console, text.substr(at, 16));
  p.loop.Stop();
  p.console.reset();
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(10));
}

TEST_CASE("A pty that is read loses nothing of a flood", "[console][threads]") {
  PtyConsole p;
  const UniqueFd terminal = p.OpenTerminal();
  Print(*p.console, "!");
  REQUIRE(ReadFrom(terminal.get(), 1) == "!");
  const std::string text = Lines(1'000'000);
  auto read = std::async(std::launch::async, [&] { return ReadFrom(terminal.get(), text.size()); });
  for (size_t at = 0; at < text.size(); at += 50) Print(*p.console, text.substr(at, 50));
  CHECK((read.get() == text));
}

TEST_CASE("The next reader of a pty finds it raw and gets what came before", "[console][threads]") {
  PtyConsole p;
  {
    const UniqueFd first = p.OpenTerminal();
    Print(*p.console, "hello");
    CHECK(ReadFrom(first.get(), 2) == "he");
    termios mode{};
    REQUIRE(tcgetattr(first.get(), &mode) == 0);
    mode.c_lflag |= ICANON | ECHO;
    REQUIRE(tcsetattr(first.get(), TCSANOW, &mode) == 0);
  }
  std::string got;
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (got != "hello" && std::chrono::steady_clock::now() < give_up) {  // until the close is seen
    UniqueFd fd(open(p.console->Where().c_str(), O_RDWR | O_NOCTTY | O_CLOEXEC));
    termios mode{};
    REQUIRE(tcgetattr(fd.get(), &mode) == 0);
    if ((mode.c_lflag & ICANON) == 0) got = ReadFrom(fd.get(), 5);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  CHECK(got == "hello");
}

TEST_CASE("The last lines reach the reader of a pty although it closes right after them",
          "[console][threads]") {
  PtyConsole p;
  const UniqueFd terminal = p.OpenTerminal();
  Print(*p.console, "!");
  REQUIRE(ReadFrom(terminal.get(), 1) == "!");
  const std::string text = Lines(50'000);
  auto read = std::async(std::launch::async, [&] { return ReadToEnd(terminal.get()); });
  Print(*p.console, text);
  p.loop.Stop();
  p.console.reset();
  CHECK((read.get() == text));
}

}  // namespace
}  // namespace vmm::test
