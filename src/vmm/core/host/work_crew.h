// Threads that do one kind of work side by side whenever somebody rings.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace vmm {

class WorkCrew {
 public:
  // `work` runs on one of the threads, after each ring at least once from its beginning on; several
  // rings may share a run. It may ring for another thread to help. `name`: at most 15 characters.
  WorkCrew(std::string name, unsigned threads, std::function<void()> work);
  // Waits for the runs that are under way. Nobody rings any more.
  ~WorkCrew();
  WorkCrew(const WorkCrew&) = delete;
  WorkCrew& operator=(const WorkCrew&) = delete;

  // Any thread; waits for nothing but a lock that nobody holds for long.
  void Ring();

 private:
  void Run();

  const std::string name_;
  const std::function<void()> work_;
  std::atomic<bool> is_rung_{false};
  std::mutex mutex_;  // guards is_ending_; a ring is waited for with it
  std::condition_variable something_;
  bool is_ending_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace vmm
