#include "vmm/core/host/char_socket.h"

#include <fcntl.h>

#include "char_fakes.h"

namespace vmm::test {
namespace {

struct SocketLine {
  SocketLine() {
    int ends[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
    reader = UniqueFd(ends[0]);
    const UniqueFd theirs(ends[1]);  // which the console does not need for long
    auto opened = OpenCharBackend(
        {.kind = CharBackendSpec::Kind::kSocket, .name = "serial1", .fd = theirs.get()}, *loop);
    REQUIRE(opened);
    console = std::move(*opened);
  }
  ~SocketLine() { loop.Stop(); }

  UniqueFd reader;
  ConsoleLoop loop;
  std::unique_ptr<CharBackend> console;
};

TEST_CASE("A console on a socket that it was given carries bytes both ways", "[console][threads]") {
  SocketLine line;
  Guest guest;
  line.console->SetReceiver(&guest);
  line.console->ResumeInput();
  const std::string text = Lines(50'000);
  Print(*line.console, text);
  CHECK(ReadFrom(line.reader.get(), text.size()) == text);
  REQUIRE(send(line.reader.get(), "typed", 5, MSG_NOSIGNAL) == 5);
  CHECK(guest.Wait(5) == "typed");
}

TEST_CASE("A guest may go on printing when the other side of its socket has gone",
          "[console][threads]") {
  SocketLine line;
  Guest guest;
  line.console->SetReceiver(&guest);
  line.reader.Reset();
  for (int i = 0; i < 100; ++i) Print(*line.console, Lines(10'000));
  line.loop.Stop();
  CHECK(line.console->Finish());
}

TEST_CASE("A descriptor that is none is refused", "[console]") {
  ConsoleLoop loop;
  const auto opened =
      OpenCharBackend({.kind = CharBackendSpec::Kind::kSocket, .name = "serial1"}, *loop);
  REQUIRE_FALSE(opened);
  CHECK(opened.error().code == ExitCode::kConsoleLost);
}

}  // namespace
}  // namespace vmm::test
