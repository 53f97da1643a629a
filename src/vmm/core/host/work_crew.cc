#include "vmm/core/host/work_crew.h"

#include <pthread.h>

#include <utility>

namespace vmm {

WorkCrew::WorkCrew(std::string name, unsigned threads, std::function<void()> work)
    : name_(std::move(name)), work_(std::move(work)) {
  for (unsigned i = 0; i < threads; ++i) threads_.emplace_back([this] { Run(); });
}

WorkCrew::~WorkCrew() {
  {
    const std::lock_guard lock(mutex_);
    is_ending_ = true;
  }
  something_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void WorkCrew::Ring() {
  if (is_rung_.exchange(true)) return;
  // Whoever has looked and not seen it waits by now.
  {
    const std::lock_guard lock(mutex_);
  }
  something_.notify_one();
}

void WorkCrew::Run() {
  pthread_setname_np(pthread_self(), name_.substr(0, 15).c_str());
  std::unique_lock lock(mutex_);
  for (;;) {
    something_.wait(lock, [&] { return is_ending_ || is_rung_.load(); });
    if (is_ending_) return;
    if (!is_rung_.exchange(false)) continue;
    lock.unlock();
    work_();
    lock.lock();
  }
}

}  // namespace vmm
