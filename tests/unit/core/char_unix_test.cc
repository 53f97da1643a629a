#include "vmm/core/host/char_unix.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "char_fakes.h"

namespace vmm::test {
namespace {

struct SocketConsole {
  SocketConsole()
      : console(*OpenCharBackend({.kind = Kind::kUnix, .path = path, .name = "serial0"}, *loop)) {}
  ~SocketConsole() { loop.Stop(); }

  // A client that the console has taken: it has got the byte printed before.
  UniqueFd Attach() {
    Print(*console, "!");
    UniqueFd client = Connect(path);
    REQUIRE(client);
    std::string got;
    while (!got.ends_with('!')) {
      const std::string more = ReadFrom(client.get(), 1);
      if (more.empty()) FAIL("the console did not take the client");
      got += more;
    }
    return client;
  }

  const TempDirectory directory;
  const std::string path = directory / "console.sock";
  ConsoleLoop loop;
  std::unique_ptr<CharBackend> console;
};

TEST_CASE("A client that comes late to a console socket gets the last 64 KiB, then the rest",
          "[console][threads]") {
  SocketConsole s;
  const std::string text = Lines(200'000);
  Print(*s.console, text);
  const UniqueFd client = Connect(s.path);
  const std::string last = text.substr(text.size() - CharOutput::kRingSize);
  CHECK(ReadFrom(client.get(), last.size()) == last);
  Print(*s.console, "and on");
  CHECK(ReadFrom(client.get(), 6) == "and on");
}

TEST_CASE("The next client of a console socket gets again what the first one saw",
          "[console][threads]") {
  SocketConsole s;
  Print(*s.console, "login: ");
  for (int i = 0; i < 3; ++i) {
    const UniqueFd client = Connect(s.path);
    CHECK(ReadFrom(client.get(), 7) == "login: ");
  }
}

TEST_CASE("What a client types reaches the guest when it has room, and nothing is lost",
          "[console][threads]") {
  SocketConsole s;
  Guest guest(3);
  const UniqueFd client = Connect(s.path);
  REQUIRE(write(client.get(), "poweroff\r", 9) == 9);  // before there is a receiver
  s.console->SetReceiver(&guest);
  CHECK(guest.Wait(3) == "pow");
  guest.MakeRoom(100);
  s.console->ResumeInput();
  CHECK(guest.Wait(9) == "poweroff\r");
}

TEST_CASE("What a client typed before it left is kept for a guest that was not ready",
          "[console][threads]") {
  SocketConsole s;
  Guest guest(0);
  s.console->SetReceiver(&guest);
  {
    const UniqueFd client = s.Attach();
    const std::string text = Lines(50'000);
    REQUIRE(write(client.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()));
  }
  const UniqueFd next = s.Attach();  // taken although the guest has read nothing
  guest.MakeRoom(1'000'000);
  s.console->ResumeInput();
  CHECK(guest.Wait(50'000).substr(0, 50'000) == Lines(50'000).substr(0, 50'000));
}

TEST_CASE("A client that sends no more may still read", "[console][threads]") {
  SocketConsole s;
  Guest guest;
  s.console->SetReceiver(&guest);
  const UniqueFd client = s.Attach();
  REQUIRE(write(client.get(), "uptime\r", 7) == 7);
  REQUIRE(shutdown(client.get(), SHUT_WR) == 0);
  CHECK(guest.Wait(7) == "uptime\r");
  Print(*s.console, "up 3 days");
  CHECK(ReadFrom(client.get(), 9) == "up 3 days");
}

TEST_CASE("A second client at the same time is told so and closed, the first one goes on",
          "[console][threads]") {
  SocketConsole s;
  const UniqueFd first = s.Attach();
  const UniqueFd second = Connect(s.path);
  CHECK_THAT(ReadToEnd(second.get()), Catch::Contains("another client has this console"));
  Print(*s.console, "for the first");
  CHECK(ReadFrom(first.get(), 13) == "for the first");
}

TEST_CASE("A client that stops reading stops neither the guest nor the next client",
          "[console][threads]") {
  SocketConsole s;
  const std::string text = Lines(2'000'000);
  const auto start = std::chrono::steady_clock::now();
  {
    const UniqueFd stalled = s.Attach();
    for (size_t at = 0; at < text.size(); at += 16) Print(*s.console, text.substr(at, 16));
    CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(8));
  }
  UniqueFd client;
  const std::string last = text.substr(text.size() - CharOutput::kRingSize);
  std::string got;
  for (int tries = 0; tries < 200 && got != last; ++tries) {  // until the first one's end is seen
    client = Connect(s.path);
    got = ReadFrom(client.get(), last.size());
  }
  CHECK(got == last);
}

TEST_CASE("The last lines reach a client although the console closes right after them",
          "[console][threads]") {
  SocketConsole s;
  const UniqueFd client = s.Attach();
  const std::string text = Lines(60'000);
  auto read = std::async(std::launch::async, [&] { return ReadToEnd(client.get()); });
  Print(*s.console, text);
  s.loop.Stop();
  s.console.reset();
  CHECK((read.get() == text));
}

TEST_CASE("A console socket is for its user only and is gone with the console",
          "[console][threads]") {
  SocketConsole s;
  struct stat status{};
  REQUIRE(stat(s.path.c_str(), &status) == 0);
  CHECK(S_ISSOCK(status.st_mode));
  CHECK((status.st_mode & 0777) == 0600);
  s.loop.Stop();
  s.console.reset();
  CHECK(std::filesystem::is_empty(s.directory.path()));
}

TEST_CASE("A socket that nobody serves any more is replaced, one that is served is refused",
          "[console][threads]") {
  SocketConsole s;
  const std::string stale = s.directory / "stale";
  {
    UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, stale.c_str(), sizeof address.sun_path - 1);
    REQUIRE(bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  }
  CHECK(OpenCharBackend({.kind = Kind::kUnix, .path = stale}, *s.loop).has_value());
  const auto second = OpenCharBackend({.kind = Kind::kUnix, .path = s.path}, *s.loop);
  REQUIRE_FALSE(second);
  CHECK(second.error().code == ExitCode::kConsoleLost);
  CHECK_THAT(second.error().message, Catch::Contains(s.path) && Catch::Contains("serves it"));
  CHECK(s.Attach());
}

TEST_CASE("A file that is not a socket is never removed for one", "[console][threads]") {
  SocketConsole s;
  const std::string path = s.directory / "precious";
  REQUIRE(UniqueFd(open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600)));
  const auto opened = OpenCharBackend({.kind = Kind::kUnix, .path = path}, *s.loop);
  REQUIRE_FALSE(opened);
  CHECK(opened.error().code == ExitCode::kConsoleLost);
  CHECK(std::filesystem::is_regular_file(path));
}

TEST_CASE("A path too long for a socket is refused with its length, one that just fits is not",
          "[console][threads]") {
  SocketConsole s;
  const std::string folder = s.directory.path().string() + "/";
  const std::string fits = folder + std::string(107 - folder.size(), 'x');
  CHECK(OpenCharBackend({.kind = Kind::kUnix, .path = fits}, *s.loop).has_value());
  const auto opened = OpenCharBackend({.kind = Kind::kUnix, .path = fits + "x"}, *s.loop);
  REQUIRE_FALSE(opened);
  CHECK(opened.error().code == ExitCode::kConfigInvalid);
  CHECK_THAT(opened.error().message, Catch::Contains("108 bytes") && Catch::Contains("shorter"));
}

TEST_CASE("A socket in a directory that does not exist is an error with a remedy",
          "[console][threads]") {
  SocketConsole s;
  const auto opened =
      OpenCharBackend({.kind = Kind::kUnix, .path = s.directory / "none/s"}, *s.loop);
  REQUIRE_FALSE(opened);
  CHECK(opened.error().code == ExitCode::kConsoleLost);
  CHECK_THAT(opened.error().message, Catch::Contains("make the directory first"));
}

}  // namespace
}  // namespace vmm::test
