// A time limit for KVM_RUN on this thread: a KVM that never comes back must not hang the start.
#pragma once

#include <chrono>
#include <ctime>

namespace vmm::probe {

// CPU time of this thread in seconds.
double ThreadCpuSeconds();

// How long something may take: so much CPU time of this thread, and so much time on the wall. On a
// busy host the wall says little: a KVM that had to wait for a processor is not a slow one.
struct Allowance {
  std::chrono::microseconds cpu, wall;
};

// While it lives, the thread that made it gets the kick signal from `allowed.cpu` on the wall clock
// on, every millisecond, so that no KVM_RUN escapes; whoever runs then asks expired().
class RunLimit {
 public:
  explicit RunLimit(Allowance allowed);
  ~RunLimit();
  RunLimit(const RunLimit&) = delete;
  RunLimit& operator=(const RunLimit&) = delete;

  bool expired() const;

 private:
  double cpu_end_;  // of ThreadCpuSeconds()
  std::chrono::steady_clock::time_point wall_end_;
  timer_t timer_{};
  bool armed_ = false;
};

}  // namespace vmm::probe
