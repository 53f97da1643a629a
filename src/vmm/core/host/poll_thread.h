// A thread that works whenever somebody rings or a descriptor is ready.
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <thread>

#include "vmm/core/base/result.h"
#include "vmm/core/host/unique_fd.h"

namespace vmm {

class PollThread {
 public:
  // What to wait for besides a ring: `events` of poll(2) on `fd`; none: only for a ring.
  struct Wait {
    int fd = -1;
    short events = 0;
    bool not_at_all = false;  // there is more to do already
  };

  // `work` runs on the thread: at first, after each ring at least once from its beginning on, and
  // when what it waits for has come. `name`: at most 15 characters. Our descriptors are used up:
  // it ends the program.
  PollThread(std::string name, std::function<Wait()> work);
  // Waits for the run that is under way. Nobody rings any more.
  ~PollThread();
  PollThread(const PollThread&) = delete;
  PollThread& operator=(const PollThread&) = delete;

  // Any thread; never waits.
  void Ring();
  // An eventfd whose signal is a ring too, for who can't call.
  int bell() const { return bell_.get(); }

 private:
  void Run();

  const std::string name_;
  const std::function<Wait()> work_;
  UniqueFd bell_;
  std::atomic<bool> is_rung_{false};  // and the thread has not yet seen it
  std::atomic<bool> is_ending_{false};
  std::thread thread_;
};

}  // namespace vmm
