#include <fcntl.h>
#include <sys/stat.h>

#include "char_fakes.h"

namespace vmm::test {
namespace {

Result<std::unique_ptr<CharBackend>> Listen(const std::string& path, EventLoop& loop) {
  return OpenCharBackend({.kind = Kind::kUnix, .path = path, .name = "serial0"}, loop);
}

TEST_CASE("A client that comes late to a console socket gets the last 64 KiB") {
  const TempDirectory directory;
  ConsoleLoop loop;
  auto console = *Listen(directory / "s", *loop);
  const std::string text = Lines(200'000);
  Print(*console, text);
  const UniqueFd client = Connect(directory / "s");
  const std::string last = text.substr(text.size() - 64 * 1024);
  CHECK(ReadFrom(client.get(), last.size()) == last);
  Print(*console, "and on");
  CHECK(ReadFrom(client.get(), 6) == "and on");
  loop.Stop();
}

TEST_CASE("What a client types reaches the guest when it has room, and nothing is lost") {
  const TempDirectory directory;
  ConsoleLoop loop;
  auto console = *Listen(directory / "s", *loop);
  Guest guest(3);
  const UniqueFd client = Connect(directory / "s");
  REQUIRE(write(client.get(), "poweroff\r", 9) == 9);  // before there is a receiver
  console->SetReceiver(&guest);
  CHECK(guest.Wait(3) == "pow");
  guest.MakeRoom(100);
  console->ResumeInput();
  CHECK(guest.Wait(9) == "poweroff\r");
  loop.Stop();
}

}  // namespace
}  // namespace vmm::test
