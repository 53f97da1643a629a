// A thread that does one kind of work whenever somebody rings.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <thread>

namespace vmm {

class WorkThread {
 public:
  // `work` runs on the thread, after each ring at least once from its beginning on; several rings
  // may share a run. `name`: at most 15 characters.
  WorkThread(std::string name, std::function<void()> work);
  // Waits for the run that is under way. Nobody rings any more.
  ~WorkThread();
  WorkThread(const WorkThread&) = delete;
  WorkThread& operator=(const WorkThread&) = delete;

  // Any thread; never waits.
  void Ring() {
    rings_.fetch_add(1);
    rings_.notify_one();
  }

 private:
  void Run();

  const std::string name_;
  const std::function<void()> work_;
  std::atomic<uint32_t> rings_{0};
  std::atomic<bool> is_ending_{false};
  std::thread thread_;
};

}  // namespace vmm
