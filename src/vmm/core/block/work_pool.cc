#include "vmm/core/block/work_pool.h"

#include <pthread.h>

namespace vmm {

WorkPool::~WorkPool() {
  {
    const std::lock_guard lock(mutex_);
    is_ending_ = true;
  }
  something_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void WorkPool::Add(std::function<void()> work) {
  const std::lock_guard lock(mutex_);
  work_.push(std::move(work));
  if (work_.size() > idle_ && threads_.size() < most_) {
    threads_.emplace_back([this] { Run(); });
  } else {
    something_.notify_one();
  }
}

void WorkPool::Run() {
  pthread_setname_np(pthread_self(), "disk");
  std::unique_lock lock(mutex_);
  for (;;) {
    ++idle_;
    something_.wait(lock, [&] { return !work_.empty() || is_ending_; });
    --idle_;
    if (work_.empty()) return;
    const std::function<void()> work = std::move(work_.front());
    work_.pop();
    lock.unlock();
    work();
    lock.lock();
  }
}

}  // namespace vmm
