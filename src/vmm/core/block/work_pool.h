// Threads that do what blocks.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <queue>
#include <thread>
#include <vector>

namespace vmm {

class WorkPool {
 public:
  // Threads are started as work comes, up to `most`.
  explicit WorkPool(unsigned most) : most_(most) {}
  ~WorkPool();  // after all work is done

  void Add(std::function<void()> work);  // any thread

 private:
  void Run();

  const unsigned most_;
  std::mutex mutex_;
  std::condition_variable something_;
  std::queue<std::function<void()>> work_;
  std::vector<std::thread> threads_;
  unsigned idle_ = 0;
  bool is_ending_ = false;
};

}  // namespace vmm
