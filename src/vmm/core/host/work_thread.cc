#include "vmm/core/host/work_thread.h"

#include <pthread.h>

#include <utility>

namespace vmm {

WorkThread::WorkThread(std::string name, std::function<void()> work)
    : name_(std::move(name)), work_(std::move(work)), thread_([this] { Run(); }) {}

WorkThread::~WorkThread() {
  is_ending_ = true;
  Ring();
  thread_.join();
}

void WorkThread::Run() {
  pthread_setname_np(pthread_self(), name_.substr(0, 15).c_str());
  uint32_t seen = 0;
  for (;;) {
    rings_.wait(seen);
    seen = rings_.load();
    if (is_ending_) return;
    work_();
  }
}

}  // namespace vmm
