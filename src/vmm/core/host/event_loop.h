// The I/O thread's loop: descriptors, timers and work that other threads post.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <vector>

#include "vmm/core/base/result.h"
#include "vmm/core/host/timer_heap.h"
#include "vmm/core/host/unique_fd.h"
#include "vmm/core/time/clock.h"

namespace vmm {

// All callbacks run on the thread inside Run() (the I/O thread), one at a time and with no lock
// held. Every method may be called from any thread, also from inside a callback, unless it says
// otherwise. The loop outlives the timers made by it, and nobody is inside Run() when it goes.
//
// Lock ranks: mutex_ is the last one (docs/locks.md): nothing is called while it is held.
class EventLoop final : public TimerService, private ClockListener {
 public:
  // Timers count the time of `clock`: while it stands, none expires. kOsError when the host has no
  // descriptors left.
  static Result<std::unique_ptr<EventLoop>> Create(const Clock& clock);
  ~EventLoop() override;

  // Calls `callback` with the events of epoll_wait(2) that came for `fd`, level-triggered unless
  // EPOLLET is asked for. The descriptor stays the caller's. kOsError for one that epoll refuses
  // (regular files) or that is known already.
  Result<void> AddFd(int fd, uint32_t epoll_events, std::function<void(uint32_t)> callback);
  void ModifyFd(int fd, uint32_t epoll_events);
  // Once it returns the callback is not running and will not run again - except in that callback
  // itself, which may remove its own descriptor. Call it before closing `fd`.
  void RemoveFd(int fd);

  // Runs `work` on the I/O thread, in the order of posting. What is still waiting when the loop is
  // destroyed never runs.
  void Post(std::function<void()> work);

  // The callback may destroy its own timer.
  std::unique_ptr<Timer> NewTimer(std::function<void()> callback) override;

  void Run();
  // Ends Run(), or else the next one. Also safe in a signal handler.
  void Stop();
  // Handles what is ready now and returns: Run() for a test or for the last words of a machine.
  void RunPending();

  bool OnIoThread() const { return io_thread_.load() == std::this_thread::get_id(); }

 private:
  class LoopTimer;
  struct FdHandler {
    uint32_t generation;
    std::shared_ptr<const std::function<void(uint32_t)>> callback;
  };

  explicit EventLoop(const Clock& clock) : clock_(clock) {}
  Result<void> Open();
  void OnClockChange() override;
  void Wake();
  void Iterate(bool wait);
  void Dispatch(uint64_t key, uint32_t events);
  void RunTimers();
  void RunPosted();
  void ArmTimer(LoopTimer& timer, Nanoseconds deadline);
  void SetTimerFd();  // mutex_ held
  void FinishCallback();
  void WaitWhileRunning(std::unique_lock<std::mutex>& lock, const void* owner);

  const Clock& clock_;
  UniqueFd epoll_, wake_, timer_fd_;
  std::atomic<bool> stop_{false};
  std::atomic<std::thread::id> io_thread_{};

  std::mutex mutex_;
  std::condition_variable callback_done_;
  const void* running_ = nullptr;  // the LoopTimer or handler whose callback runs
  unsigned waiters_ = 0;           // threads that wait for it
  std::unordered_map<int, FdHandler> handlers_;
  uint32_t next_generation_ = 1;
  std::vector<std::function<void()>> posted_;
  TimerHeap timers_;
  // What timer_fd_ is set to, in time of `clock_`. It may be earlier than the first deadline: a
  // timer that is armed again and again for later costs no system call.
  static constexpr Nanoseconds kNotSet = Nanoseconds::max();
  static constexpr Nanoseconds kInRunTimers = Nanoseconds::min();  // which will set it at its end
  Nanoseconds timer_fd_deadline_ = kNotSet;
};

}  // namespace vmm
