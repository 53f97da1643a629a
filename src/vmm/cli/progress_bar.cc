#include "vmm/cli/progress_bar.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace vmm {
namespace {

constexpr std::chrono::milliseconds kPause{100};

unsigned TerminalWidth() {
  winsize size = {};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col != 0 ? size.ws_col : 80;
}

}  // namespace

ProgressBar::ProgressBar(std::string what, bool quiet)
    : what_(std::move(what)),
      is_shown_(!quiet && isatty(STDERR_FILENO) == 1),
      next_(std::chrono::steady_clock::now() + 3 * kPause) {}

ProgressBar::~ProgressBar() {
  if (is_drawn_) std::fputs("\r\x1b[K", stderr);
}

void ProgressBar::Show(uint64_t done, uint64_t all) {
  if (!is_shown_) return;
  const auto now = std::chrono::steady_clock::now();
  if (now < next_) return;
  next_ = now + kPause;
  is_drawn_ = true;
  std::fprintf(stderr, "\r%s\x1b[K", Draw(what_, done, all, TerminalWidth() - 1).c_str());
  std::fflush(stderr);
}

std::string ProgressBar::Draw(const std::string& what, uint64_t done, uint64_t all,
                              unsigned width) {
  const double share =
      all == 0 ? 1.0 : std::min(1.0, static_cast<double>(done) / static_cast<double>(all));
  const std::string number = fmt::format(" {:3.0f}%", share * 100);
  const size_t taken = what.size() + number.size() + 3;
  if (taken + 8 > width) return number.substr(1);
  const size_t cells = std::min<size_t>(width - taken, 50);
  const auto full = static_cast<size_t>(share * static_cast<double>(cells));
  return fmt::format("{} [{}{}]{}", what, std::string(full, '#'), std::string(cells - full, '.'),
                     number);
}

}  // namespace vmm
