#include "vmm/core/host/char_file.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "char_fakes.h"

namespace vmm::test {
namespace {

std::string Contents(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

std::string MessageOf(const std::string& path, EventLoop& loop) {
  const auto opened = OpenCharBackend({.kind = Kind::kFile, .path = path}, loop);
  if (opened) return "opened";
  CHECK(opened.error().code == ExitCode::kConsoleLost);
  CHECK_THAT(opened.error().message, Catch::Contains(path));
  return opened.error().message;
}

TEST_CASE("A console file gets every byte of a flood, to the last line", "[console][threads]") {
  const TempDirectory directory;
  ConsoleLoop loop;
  auto console = *OpenCharBackend({.kind = Kind::kFile, .path = directory / "log"}, *loop);
  const std::string text = Lines(5'000'000);
  for (size_t at = 0; at < text.size(); at += 9) Print(*console, text.substr(at, 9));
  loop.Stop();
  console.reset();
  CHECK((Contents(directory / "log") == text));
}

TEST_CASE("A console file is appended to, or begun anew where that is asked for",
          "[console][threads]") {
  const TempDirectory directory;
  ConsoleLoop loop;
  const std::string path = directory / "log";
  Print(**OpenCharBackend({.kind = Kind::kFile, .path = path}, *loop), "one ");
  Print(**OpenCharBackend({.kind = Kind::kFile, .path = path}, *loop), "two");
  CHECK(Contents(path) == "one two");
  Print(**OpenCharBackend({.kind = Kind::kFile, .path = path, .truncate = true}, *loop), "new");
  CHECK(Contents(path) == "new");
  loop.Stop();
}

TEST_CASE("A console file that is full stands aside once, and loses nothing",
          "[console][threads]") {
  const TempDirectory directory;
  ConsoleLoop loop;
  const std::string path = directory / "c.log", older = directory / "c.1.log";
  CHECK(OlderFile(path) == older);
  constexpr uint64_t kLimit = 100'000;
  const auto open = [&] {
    return *OpenCharBackend({.kind = Kind::kFile, .path = path, .limit = kLimit}, *loop);
  };
  const std::string text = Lines(250'000);
  // What an earlier run left counts.
  Print(*open(), text.substr(0, 60'000));
  CHECK(!std::filesystem::exists(older));
  auto console = open();
  for (size_t at = 60'000; at < text.size(); at += 1000) Print(*console, text.substr(at, 1000));
  loop.Stop();
  console.reset();
  const std::string kept = Contents(older) + Contents(path);
  CHECK(Contents(older).size() >= kLimit);
  CHECK(Contents(older).size() < kLimit + 16'384);  // of one write
  CHECK(Contents(path).size() < kLimit);
  CHECK(kept.size() < text.size());
  CHECK((text.substr(text.size() - kept.size()) == kept));
}

TEST_CASE("A console file that can't stand aside begins anew, and stays small", "[console]") {
  const TempDirectory directory;
  ConsoleLoop loop;
  const std::string path = directory / "c.log";
  std::filesystem::create_directories(OlderFile(path) + "/in the way");
  auto console = *OpenCharBackend({.kind = Kind::kFile, .path = path, .limit = 10'000}, *loop);
  for (int i = 0; i < 50; ++i) Print(*console, std::string(1000, 'x'));
  loop.Stop();
  console.reset();
  CHECK(std::filesystem::file_size(path) < 10'000);
}

TEST_CASE("A console file that can't be written is an error with the path and a remedy",
          "[console][threads]") {
  const TempDirectory directory;
  ConsoleLoop loop;
  CHECK_THAT(MessageOf(directory / "none/log", *loop), Catch::Contains("make the directory first"));
  CHECK_THAT(MessageOf(directory.path(), *loop), Catch::Contains("name a file in it"));
  CHECK_THAT(MessageOf(directory / "", *loop), Catch::Contains("name a file in it"));
}

TEST_CASE("A disk that is full ends the output and not the guest", "[console][threads]") {
  ConsoleLoop loop;
  auto console = *OpenCharBackend({.kind = Kind::kFile, .path = "/dev/full"}, *loop);
  for (int i = 0; i < 10'000; ++i) Print(*console, "one more line\r\n");
  loop.Stop();
  const Result<void> finished = console->Finish();
  REQUIRE(!finished);
  CHECK(finished.error().code == ExitCode::kConsoleLost);
  CHECK(
      finished.error().message ==
      "not all that the guest printed is in /dev/full (No space left on device); make room there, "
      "or name another place");
}

TEST_CASE("A console file that took everything has nothing to complain of", "[console][threads]") {
  const TempDirectory directory;
  ConsoleLoop loop;
  auto console = *OpenCharBackend({.kind = Kind::kFile, .path = directory / "log"}, *loop);
  Print(*console, "all of it");
  loop.Stop();
  CHECK(console->Finish());
}

TEST_CASE("A FIFO without a reader is opened at once, and one that comes finds the output",
          "[console][threads]") {
  const TempDirectory directory;
  const std::string path = directory / "fifo";
  REQUIRE(mkfifo(path.c_str(), 0600) == 0);
  ConsoleLoop loop;
  auto console = *OpenCharBackend({.kind = Kind::kFile, .path = path}, *loop);
  Print(*console, "early words");
  const UniqueFd reader(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  CHECK(ReadFrom(reader.get(), 11) == "early words");
  loop.Stop();
}

TEST_CASE("A null console takes everything and says nothing", "[console][threads]") {
  ConsoleLoop loop;
  auto console = *OpenCharBackend({}, *loop);
  Print(*console, Lines(100'000));
  console->ResumeInput();
  console->Finish();
  CHECK(console->Where().empty());
}

TEST_CASE("Consoles leave no descriptor behind", "[console][threads]") {
  const TempDirectory directory;
  const auto open_descriptors = [] {
    return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {});
  };
  ConsoleLoop loop;
  const auto before = open_descriptors();
  for (const Kind kind : {Kind::kNull, Kind::kPty, Kind::kUnix, Kind::kFile, Kind::kStdio}) {
    const auto console = OpenCharBackend({.kind = kind, .path = directory / "c"}, *loop);
    REQUIRE(console);
    if (kind == Kind::kFile) std::filesystem::remove(directory / "c");
  }
  CHECK(open_descriptors() == before);
  loop.Stop();
}

}  // namespace
}  // namespace vmm::test
