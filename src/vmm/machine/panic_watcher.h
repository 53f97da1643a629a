// Reads along on what the guest prints and recognises a Linux kernel panic; keeps the last lines of
// the console for the run's result.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace vmm {

// What a line of a console says about a panic.
enum class PanicLine {
  kNone,
  kBegin,  // "Kernel panic - not syncing: ..." at the start of a message
  kEnd,    // "---[ end Kernel panic ...": the last line that a panicking kernel prints
};
PanicLine ClassifyPanicLine(std::string_view line);

// One for all consoles of a machine. Threads: OnOutput from any thread; the handlers run on that
// thread, with no lock held, and must not block.
class PanicWatcher {
 public:
  static constexpr size_t kMaxLine = 512;  // bytes; a longer line is cut there
  static constexpr size_t kRememberedLines = 40;

  // `on_begin` gets the panic message without the time stamp. A line is looked at as soon as it is
  // complete.
  struct Handlers {
    std::function<void(std::string message)> on_begin;
    std::function<void()> on_end;
  };

  PanicWatcher(unsigned consoles, Handlers handlers);

  void OnOutput(unsigned console, std::span<const uint8_t> data);

  // The last lines that any console printed, oldest first, the unfinished one included.
  std::vector<std::string> LastLines() const;

 private:
  struct Line {
    std::string text;
  };
  // Under the mutex. Moves a finished line to the memory and says what it was.
  PanicLine FinishLine(Line& line, std::string* message);

  const Handlers handlers_;
  mutable std::mutex mutex_;
  std::vector<Line> open_;  // one a console
  std::deque<std::string> finished_;
};

}  // namespace vmm
