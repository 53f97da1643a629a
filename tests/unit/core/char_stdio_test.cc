#include "vmm/core/host/char_stdio.h"

#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <sys/wait.h>
#include <termios.h>

#include "char_fakes.h"

namespace vmm::test {
namespace {

TEST_CASE("Standard output that is read loses nothing of a flood, to the last line", "[threads]") {
  Pipe output, input;
  ConsoleLoop loop;
  auto console = *CharStdio::Open(*loop, "serial0", input.out.get(), output.in.get());
  output.in.Reset();
  const std::string text = Lines(5'000'000);
  auto read = std::async(std::launch::async, [&] { return ReadToEnd(output.out.get()); });
  for (size_t at = 0; at < text.size(); at += 7) Print(*console, text.substr(at, 7));
  loop.Stop();
  console.reset();
  CHECK(read.get() == text);
}

TEST_CASE("A reader of standard output that never reads does not stop the guest", "[threads]") {
  Pipe output, input;
  ConsoleLoop loop;
  auto console = *CharStdio::Open(*loop, "serial0", input.out.get(), output.in.get());
  output.in.Reset();
  const std::string text = Lines(2'000'000);
  const auto start = std::chrono::steady_clock::now();
  for (size_t at = 0; at < text.size(); at += 16) Print(*console, text.substr(at, 16));
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(5));
  loop.Stop();
  auto read = std::async(std::launch::async, [&] { return ReadToEnd(output.out.get()); });
  console.reset();
  const std::string got = read.get();
  const std::string last = text.substr(text.size() - 64 * 1024);
  REQUIRE(got.size() >= last.size());
  CHECK(got.substr(got.size() - last.size()) == last);
}

TEST_CASE("The end of standard input ends nothing, and what it brought is kept for the guest") {
  Pipe output, input;
  ConsoleLoop loop;
  auto console = *CharStdio::Open(*loop, "serial0", input.out.get(), output.in.get());
  REQUIRE(write(input.in.get(), "early", 5) == 5);
  input.in.Reset();
  Guest guest;
  console->SetReceiver(&guest);
  CHECK(guest.Wait(5) == "early");
  Print(*console, "still there");
  CHECK(ReadFrom(output.out.get(), 11) == "still there");
  loop.Stop();
}

}  // namespace
}  // namespace vmm::test
