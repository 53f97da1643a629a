// A time limit for KVM_RUN on this thread: a KVM that never comes back must not hang the start.
#pragma once

#include <chrono>
#include <ctime>

namespace vmm::probe {

// While it lives, the thread that made it gets the kick signal at `limit` from now on the wall
// clock, and every millisecond after that, so that no KVM_RUN begun in between escapes.
class RunLimit {
 public:
  explicit RunLimit(std::chrono::microseconds limit);
  ~RunLimit();
  RunLimit(const RunLimit&) = delete;
  RunLimit& operator=(const RunLimit&) = delete;

  bool expired() const { return std::chrono::steady_clock::now() >= deadline_; }

 private:
  std::chrono::steady_clock::time_point deadline_;
  timer_t timer_{};
  bool armed_ = false;
};

}  // namespace vmm::probe
