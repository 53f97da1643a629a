#include "vmm/core/host/poll_thread.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>

#include <cstdint>
#include <utility>

#include "vmm/core/base/check.h"

namespace vmm {

PollThread::PollThread(std::string name, std::function<Wait()> work)
    : name_(std::move(name)),
      work_(std::move(work)),
      bell_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  CHECK(bell_.get() >= 0);
  thread_ = std::thread([this] { Run(); });
}

PollThread::~PollThread() {
  is_ending_ = true;
  Ring();
  thread_.join();
}

void PollThread::Ring() {
  if (is_rung_.exchange(true)) return;
  const uint64_t one = 1;
  CHECK(write(bell_.get(), &one, sizeof one) == sizeof one);
}

void PollThread::Run() {
  pthread_setname_np(pthread_self(), name_.substr(0, 15).c_str());
  while (!is_ending_) {
    const Wait wait = work_();
    if (!wait.not_at_all) {
      pollfd waits[2] = {{bell_.get(), POLLIN, 0},
                         {wait.events != 0 ? wait.fd : -1, wait.events, 0}};
      poll(waits, 2, -1);
    }
    // First the bell is emptied, then the word: who rings in between is seen by this run, and who
    // rings later writes again.
    uint64_t rings;
    static_cast<void>(!read(bell_.get(), &rings, sizeof rings));
    is_rung_ = false;
  }
}

}  // namespace vmm
