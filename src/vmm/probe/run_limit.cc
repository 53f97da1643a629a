#include "vmm/probe/run_limit.h"

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "kvm/kick_signal.h"

// glibc gives this member its name since 2.38 only.
#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

namespace vmm::probe {

double ThreadCpuSeconds() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

RunLimit::RunLimit(Allowance allowed)
    : cpu_end_(ThreadCpuSeconds() + std::chrono::duration<double>(allowed.cpu).count()),
      wall_end_(std::chrono::steady_clock::now() + allowed.wall) {
  kvm::InstallKickSignal();
  sigevent event{};
  event.sigev_notify = SIGEV_THREAD_ID;
  event.sigev_signo = kvm::KickSignal();
  event.sigev_notify_thread_id = static_cast<pid_t>(::syscall(SYS_gettid));
  if (::timer_create(CLOCK_MONOTONIC, &event, &timer_) != 0) return;
  armed_ = true;
  const long ns = std::max<long>(1, std::chrono::nanoseconds(allowed.cpu).count());
  itimerspec spec{};
  spec.it_value = {ns / 1'000'000'000, ns % 1'000'000'000};
  spec.it_interval = {0, 1'000'000};
  ::timer_settime(timer_, 0, &spec, nullptr);
}

bool RunLimit::expired() const {
  return ThreadCpuSeconds() >= cpu_end_ || std::chrono::steady_clock::now() >= wall_end_;
}

RunLimit::~RunLimit() {
  if (armed_) ::timer_delete(timer_);
}

}  // namespace vmm::probe
