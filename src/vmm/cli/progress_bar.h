// How far a long command is, on stderr, and only where that is a terminal.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace vmm {

class ProgressBar {
 public:
  ProgressBar(std::string what, bool quiet);
  ~ProgressBar();  // takes the bar away

  void Show(uint64_t done, uint64_t all);
  // The bar as a line of `width` characters; without a line's end.
  static std::string Draw(const std::string& what, uint64_t done, uint64_t all, unsigned width);

 private:
  const std::string what_;
  const bool is_shown_;
  bool is_drawn_ = false;
  std::chrono::steady_clock::time_point next_;
};

}  // namespace vmm
