#include "kvm/background_close.h"

#include <mutex>
#include <thread>
#include <vector>

namespace kvm {
namespace {

class Closer {
 public:
  ~Closer() { Join(); }

  void Add(std::shared_ptr<void> object) {
    std::lock_guard lock(mutex_);
    threads_.emplace_back([object = std::move(object)]() mutable { object.reset(); });
  }

  void Join() {
    std::vector<std::thread> threads;
    {
      std::lock_guard lock(mutex_);
      threads.swap(threads_);
    }
    for (std::thread& thread : threads) thread.join();
  }

 private:
  std::mutex mutex_;
  std::vector<std::thread> threads_;
};

Closer& TheCloser() {
  static Closer closer;
  return closer;
}

}  // namespace

void DestroyInBackground(std::shared_ptr<void> object) {
  TheCloser().Add(std::move(object));
}

void WaitForBackground() {
  TheCloser().Join();
}

}  // namespace kvm
