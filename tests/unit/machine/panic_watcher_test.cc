#include "vmm/machine/panic_watcher.h"

#include <catch2/catch.hpp>

namespace vmm {
namespace {

struct Recorder {
  std::vector<std::string> begun;
  unsigned ended = 0;
  PanicWatcher watcher{
      2,
      {[this](std::string message) { begun.push_back(std::move(message)); }, [this] { ++ended; }}};

  void Print(std::string_view text, unsigned console = 0) {
    watcher.OnOutput(console,
                     std::span(reinterpret_cast<const uint8_t*>(text.data()), text.size()));
  }
};

TEST_CASE("Lines of a Linux panic are told from others") {
  CHECK(ClassifyPanicLine("Kernel panic - not syncing: VFS") == PanicLine::kBegin);
  CHECK(ClassifyPanicLine("[    0.912345] Kernel panic - not syncing: Fatal exception") ==
        PanicLine::kBegin);
  CHECK(ClassifyPanicLine("<0>[    0.912345][    T1] Kernel panic - not syncing: x") ==
        PanicLine::kBegin);
  CHECK(ClassifyPanicLine("[    1.0] ---[ end Kernel panic - not syncing: x ]---") ==
        PanicLine::kEnd);
  CHECK(ClassifyPanicLine("") == PanicLine::kNone);
  CHECK(ClassifyPanicLine("[") == PanicLine::kNone);
  CHECK(ClassifyPanicLine("grep 'Kernel panic - not syncing' log") == PanicLine::kNone);
  CHECK(ClassifyPanicLine("# echo Kernel panic - not syncing") == PanicLine::kNone);
}

TEST_CASE("A panic is recognised however its bytes arrive") {
  const std::string text =
      "[    0.1] Freeing memory\r\n"
      "[    0.9] Kernel panic - not syncing: VFS: Unable to mount root fs\r\n"
      "[    0.9] CPU: 0 PID: 1 Comm: swapper/0\r\n"
      "[    0.9] ---[ end Kernel panic - not syncing: VFS ]---\r\n";
  Recorder whole, bytewise;
  whole.Print(text);
  for (const char& byte : text) bytewise.Print({&byte, 1});
  for (const Recorder* recorder : {&whole, &bytewise}) {
    REQUIRE(recorder->begun.size() == 1);
    CHECK(recorder->begun[0] == "Kernel panic - not syncing: VFS: Unable to mount root fs");
    CHECK(recorder->ended == 1);
    CHECK(recorder->watcher.LastLines().size() == 4);
  }
}

TEST_CASE("Lines of different consoles do not mix") {
  Recorder recorder;
  recorder.Print("Kernel panic - ", 0);
  recorder.Print("hello", 1);
  recorder.Print("not syncing: a\n", 0);
  CHECK(recorder.begun.size() == 1);
  CHECK(recorder.watcher.LastLines() ==
        std::vector<std::string>{"Kernel panic - not syncing: a", "hello"});
}

TEST_CASE("Only the last lines are kept, cut to a bounded length and free of control bytes") {
  Recorder recorder;
  for (int i = 0; i < 100; ++i) recorder.Print("line " + std::to_string(i) + "\n");
  recorder.Print(std::string(5000, 'x') + "\n\x1b[31m\x07tail");
  const auto lines = recorder.watcher.LastLines();
  REQUIRE(lines.size() == PanicWatcher::kRememberedLines + 1);
  CHECK(lines[lines.size() - 2] == std::string(PanicWatcher::kMaxLine, 'x'));
  CHECK(lines.back() == "[31mtail");
  CHECK(lines[lines.size() - 3] == "line 99");
}

}  // namespace
}  // namespace vmm
