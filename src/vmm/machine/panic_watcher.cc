#include "vmm/machine/panic_watcher.h"

#include <cctype>

namespace vmm {
namespace {

// kernel/panic.c of Linux: pr_emerg("Kernel panic - not syncing: %s\n", buf) and, when all is said,
// pr_emerg("---[ end Kernel panic - not syncing: %s ]---\n", buf).
constexpr std::string_view kBeginPattern = "Kernel panic - not syncing";
constexpr std::string_view kEndPattern = "---[ end Kernel panic";

// Drops "<0>", "[    1.234567]", "[    T1]" and blanks, as printk puts them before a message.
std::string_view WithoutPrefix(std::string_view line) {
  for (;;) {
    if (line.empty()) return line;
    if (line.front() == ' ' || line.front() == '\t') {
      line.remove_prefix(1);
      continue;
    }
    const char close = line.front() == '[' ? ']' : line.front() == '<' ? '>' : '\0';
    if (close == '\0') return line;
    const size_t end = line.find(close);
    if (end == std::string_view::npos || end > 32) return line;
    line.remove_prefix(end + 1);
  }
}

bool Printable(uint8_t byte) {
  return byte == '\t' || (byte >= 0x20 && byte != 0x7f);
}

}  // namespace

PanicLine ClassifyPanicLine(std::string_view line) {
  line = WithoutPrefix(line);
  if (line.starts_with(kBeginPattern)) return PanicLine::kBegin;
  if (line.starts_with(kEndPattern)) return PanicLine::kEnd;
  return PanicLine::kNone;
}

PanicWatcher::PanicWatcher(unsigned consoles, Handlers handlers)
    : handlers_(std::move(handlers)), open_(consoles) {}

PanicLine PanicWatcher::FinishLine(Line& line, std::string* message) {
  const PanicLine kind = ClassifyPanicLine(line.text);
  if (kind == PanicLine::kBegin) *message = WithoutPrefix(line.text);
  if (!line.text.empty()) {
    finished_.push_back(std::move(line.text));
    if (finished_.size() > kRememberedLines) finished_.pop_front();
  }
  line = {};
  return kind;
}

void PanicWatcher::OnOutput(unsigned console, std::span<const uint8_t> data) {
  // What was recognised, told once the mutex is free. Several panics in one call: the first counts.
  bool begun = false, ended = false;
  std::string message;
  {
    std::lock_guard lock(mutex_);
    Line& line = open_.at(console);
    for (const uint8_t byte : data) {
      if (byte == '\n') {
        std::string text;
        const PanicLine kind = FinishLine(line, &text);
        if (kind == PanicLine::kBegin && !begun) {
          begun = true;
          message = std::move(text);
        }
        ended |= kind == PanicLine::kEnd;
      } else if (Printable(byte) && line.text.size() < kMaxLine) {
        line.text.push_back(static_cast<char>(byte));
      }
    }
  }
  if (begun && handlers_.on_begin) handlers_.on_begin(std::move(message));
  if (ended && handlers_.on_end) handlers_.on_end();
}

std::vector<std::string> PanicWatcher::LastLines() const {
  std::lock_guard lock(mutex_);
  std::vector<std::string> lines(finished_.begin(), finished_.end());
  for (const Line& line : open_) {
    if (!line.text.empty()) lines.push_back(line.text);
  }
  return lines;
}

}  // namespace vmm
