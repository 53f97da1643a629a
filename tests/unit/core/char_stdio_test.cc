#include "vmm/core/host/char_stdio.h"

#include <fcntl.h>

#include "char_fakes.h"

namespace vmm::test {
namespace {

// Standard input and output as pipes, the test at the other ends.
struct PipedStdio {
  PipedStdio() : console(*CharStdio::Open(*loop, "serial0", keys.out.get(), screen.in.get())) {
    screen.in.Reset();
    keys.out.Reset();
  }
  // The end of the run: everything the reader takes arrives.
  void End() {
    loop.Stop();
    console.reset();
  }

  Pipe keys, screen;
  ConsoleLoop loop;
  std::unique_ptr<CharStdio> console;
};

void PrintInPieces(CharBackend& console, const std::string& text, size_t piece) {
  for (size_t at = 0; at < text.size(); at += piece) Print(console, text.substr(at, piece));
}

TEST_CASE("Standard output that is read loses nothing of a flood, to the last line",
          "[console][threads]") {
  PipedStdio io;
  const std::string text = Lines(5'000'000);
  auto read = std::async(std::launch::async, [&] { return ReadToEnd(io.screen.out.get()); });
  PrintInPieces(*io.console, text, 7);
  io.End();
  CHECK((read.get() == text));
}

TEST_CASE("A reader slower than the guest, but at work, still gets every byte in order",
          "[console][threads]") {
  PipedStdio io;
  const std::string text = Lines(1'000'000);
  auto read = std::async(std::launch::async, [&] {
    std::string got;
    for (std::string part; !(part = ReadFrom(io.screen.out.get(), 16'384)).empty(); got += part) {
      std::this_thread::sleep_for(std::chrono::milliseconds(3));
    }
    return got;
  });
  PrintInPieces(*io.console, text, 64);
  io.End();
  CHECK((read.get() == text));
}

TEST_CASE("A reader of standard output that never reads stops neither the guest nor the end",
          "[console][threads]") {
  PipedStdio io;
  const std::string text = Lines(2'000'000);
  const auto start = std::chrono::steady_clock::now();
  PrintInPieces(*io.console, text, 16);
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(8));
  io.loop.Stop();
  const auto end = std::chrono::steady_clock::now();
  io.console->Finish();
  io.console.reset();  // does not wait a second time
  CHECK(std::chrono::steady_clock::now() - end < std::chrono::milliseconds(2500));
}

TEST_CASE("A reader that wakes at the end gets the last 64 KiB", "[console][threads]") {
  PipedStdio io;
  const std::string text = Lines(1'000'000);
  PrintInPieces(*io.console, text, 16);
  io.loop.Stop();
  auto read = std::async(std::launch::async, [&] { return ReadToEnd(io.screen.out.get()); });
  io.console.reset();
  const std::string got = read.get();
  const std::string last = text.substr(text.size() - CharOutput::kRingSize);
  REQUIRE(got.size() > last.size());  // before them what the pipe held
  CHECK(got.substr(got.size() - last.size()) == last);
}

TEST_CASE("Lines printed from several threads do not tear each other", "[console][threads]") {
  PipedStdio io;
  auto read = std::async(std::launch::async, [&] { return ReadToEnd(io.screen.out.get()); });
  std::vector<std::thread> guests;
  for (char name = 'a'; name < 'e'; ++name) {
    guests.emplace_back([&io, name] {
      for (int i = 0; i < 2000; ++i) Print(*io.console, std::string(63, name) + "\n");
    });
  }
  for (std::thread& guest : guests) guest.join();
  io.End();
  const std::string got = read.get();
  REQUIRE(got.size() == 4 * 2000 * 64);
  for (size_t at = 0; at < got.size(); at += 64) {
    if (got.compare(at, 64, std::string(63, got[at]) + "\n") != 0) FAIL("torn at " << at);
  }
}

TEST_CASE("The end of standard input ends nothing, and what it brought is kept for the guest",
          "[console][threads]") {
  PipedStdio io;
  REQUIRE(write(io.keys.in.get(), "early", 5) == 5);
  io.keys.in.Reset();
  Guest guest;
  io.console->SetReceiver(&guest);
  CHECK(guest.Wait(5) == "early");
  Print(*io.console, "still there");
  CHECK(ReadFrom(io.screen.out.get(), 11) == "still there");
  io.End();
}

TEST_CASE("What the guest has not taken reaches it in another run, before what is typed there",
          "[console][threads]") {
  std::vector<uint8_t> left;
  {
    PipedStdio io;
    Guest guest(5);
    io.console->SetReceiver(&guest);
    REQUIRE(write(io.keys.in.get(), "typed ahead", 11) == 11);
    CHECK(guest.Wait(5) == "typed");
    io.loop.Stop();
    left = io.console->WaitingInput();
    CHECK(std::string(left.begin(), left.end()) == " ahead");
    io.End();
  }
  PipedStdio io;
  Guest guest;
  std::promise<void> returned;
  (*io.loop).Post([&] {
    io.console->ReturnInput(left);
    returned.set_value();
  });
  returned.get_future().wait();
  REQUIRE(write(io.keys.in.get(), " of time", 8) == 8);
  io.console->SetReceiver(&guest);
  CHECK(guest.Wait(14) == " ahead of time");
  io.End();
}

TEST_CASE("A file on standard input reaches a slow guest whole and in order",
          "[console][threads]") {
  const TempDirectory directory;
  const std::string text = Lines(100'000);
  UniqueFd file(open((directory / "keys").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  REQUIRE(write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()));
  REQUIRE(lseek(file.get(), 0, SEEK_SET) == 0);
  const Pipe screen;
  ConsoleLoop loop;
  auto console = *CharStdio::Open(*loop, "serial0", file.get(), screen.in.get());
  Guest guest(0);
  console->SetReceiver(&guest);
  for (size_t got = 0; got < text.size(); got = std::min(got + 1000, text.size())) {
    guest.MakeRoom(1000);
    console->ResumeInput();
    REQUIRE(guest.Wait(std::min(got + 1000, text.size())).size() > got);
  }
  CHECK(guest.Wait(text.size()) == text);
  loop.Stop();
}

TEST_CASE("The descriptors that others share do not become non-blocking", "[console][threads]") {
  const Pipe keys, screen;
  ConsoleLoop loop;
  const auto console = *CharStdio::Open(*loop, "serial0", keys.out.get(), screen.in.get());
  Print(*console, "x");
  CHECK(ReadFrom(screen.out.get(), 1) == "x");
  CHECK((fcntl(keys.out.get(), F_GETFL) & O_NONBLOCK) == 0);
  CHECK((fcntl(screen.in.get(), F_GETFL) & O_NONBLOCK) == 0);
  loop.Stop();
}

TEST_CASE("A socket as standard output is written without a wait", "[console][threads]") {
  int ends[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  UniqueFd ours(ends[0]), theirs(ends[1]);
  ConsoleLoop loop;
  auto console = *CharStdio::Open(*loop, "serial0", theirs.get(), theirs.get());
  theirs.Reset();
  const std::string text = Lines(1'000'000);
  PrintInPieces(*console, text, 100);  // nobody reads
  loop.Stop();
  auto read = std::async(std::launch::async, [&] { return ReadToEnd(ours.get()); });
  console.reset();
  const std::string last = text.substr(text.size() - CharOutput::kRingSize);
  const std::string got = read.get();
  REQUIRE(got.size() > last.size());
  CHECK(got.substr(got.size() - last.size()) == last);
}

TEST_CASE("A standard output whose reader has gone is given up, and the guest prints on",
          "[console][threads]") {
  PipedStdio io;
  io.screen.out.Reset();
  PrintInPieces(*io.console, Lines(300'000), 50);
  io.loop.Stop();
  CHECK(io.console->Finish());
}

TEST_CASE("A full disk under standard output is given up, and the guest prints on",
          "[console][threads]") {
  const Pipe keys;
  const UniqueFd full(open("/dev/full", O_WRONLY | O_CLOEXEC));
  ConsoleLoop loop;
  const auto console = *CharStdio::Open(*loop, "serial0", keys.out.get(), full.get());
  PrintInPieces(*console, Lines(300'000), 50);
  loop.Stop();
  const Result<void> finished = console->Finish();
  REQUIRE(!finished);
  CHECK(finished.error().code == ExitCode::kConsoleLost);
  CHECK_THAT(finished.error().message, Catch::Contains("No space left"));
}

TEST_CASE("A closed standard output is an error with a remedy, a closed input is none",
          "[console][threads]") {
  ConsoleLoop loop;
  const Pipe screen;
  const int free = 900;  // a descriptor that nobody has
  REQUIRE(fcntl(free, F_GETFD) < 0);
  const auto lost = CharStdio::Open(*loop, "serial0", screen.out.get(), free);
  REQUIRE_FALSE(lost);
  CHECK(lost.error().code == ExitCode::kConsoleLost);
  CHECK_THAT(lost.error().message, Catch::Contains("/dev/null"));
  // What fills the place of a closed one.
  const UniqueFd unwritable(open("/dev/null", O_RDONLY | O_CLOEXEC));
  const auto filled = CharStdio::Open(*loop, "serial0", screen.out.get(), unwritable.get());
  REQUIRE_FALSE(filled);
  CHECK(filled.error().code == ExitCode::kConsoleLost);
  CHECK(CharStdio::Open(*loop, "serial0", free, screen.in.get()).has_value());
  loop.Stop();
}

TEST_CASE("Standard input and output serve one console at a time", "[console][threads]") {
  const Pipe keys, screen;
  ConsoleLoop loop;
  auto first = CharStdio::Open(*loop, "serial0", keys.out.get(), screen.in.get());
  REQUIRE(first);
  const auto second = OpenCharBackend({.kind = Kind::kStdio}, *loop);
  REQUIRE_FALSE(second);
  CHECK(second.error().code == ExitCode::kConfigInvalid);
  loop.Stop();
  first->reset();
  CHECK(CharStdio::Open(*loop, "serial0", keys.out.get(), screen.in.get()).has_value());
}

}  // namespace
}  // namespace vmm::test
