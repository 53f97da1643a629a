// How a halted processor waits: by looking for a while, then asleep.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>

#include "vmm/core/host/processors.h"

namespace bt {

// To be woken takes the host's scheduler tens of microseconds, about as long as a disk or a network
// takes to answer from memory. So a halt looks whether it is over for as long as short halts have
// taken of late, up to kLongest, and not at all after a long one: an idle guest costs nothing.
// Threads: one waits; any sets the bits and calls notify_one().
class HaltPoll {
 public:
  using Duration = std::chrono::nanoseconds;
  static constexpr Duration kFirst = std::chrono::microseconds(10);
  static constexpr Duration kLongest = std::chrono::microseconds(200);

  explicit HaltPoll(bool has_company = HasCompany()) : has_company_(has_company) {}

  // Returns when `bits` is not zero.
  void Wait(const std::atomic<uint32_t>& bits) {
    const auto start = Clock::now();
    if (window_ != Duration::zero()) {
      while (bits.load(std::memory_order_acquire) == 0) {
        if (Clock::now() - start >= window_) break;
        for (int i = 0; i < kPauses; ++i) __builtin_ia32_pause();
      }
    }
    if (bits.load(std::memory_order_acquire) != 0) return;
    bits.wait(0);
    Slept(Clock::now() - start);
  }

  // A halt was longer than the window: the next one that long is worth it, or no halt is.
  void Slept(Duration halt) {
    if (halt > kLongest || !has_company_) {
      window_ = Duration::zero();
    } else {
      window_ = std::clamp(2 * window_, kFirst, kLongest);
    }
  }
  Duration window() const { return window_; }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr int kPauses = 16;

  // On a host with one processor nobody can answer meanwhile.
  static bool HasCompany() { return vmm::UsableProcessors() > 1; }

  const bool has_company_;
  Duration window_{};
};

}  // namespace bt
