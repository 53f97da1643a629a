// Calls a function on the I/O thread soon after any thread has rung, many rings at once as one
// call, and, if it is wanted, none for a while after one that had something to do.
#pragma once

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <functional>
#include <memory>
#include <utility>

#include "vmm/core/base/result.h"
#include "vmm/core/host/event_loop.h"

namespace vmm {

// Unlike EventLoop::Post() it costs a system call only when the last ring has been answered, and
// once it is destroyed the function is not called any more.
class CharDoorbell {
 public:
  // `on_ring` returns whether it had something to do: then it is called again after `pause` of the
  // host's time, and who rings in between pays nothing.
  static Result<std::unique_ptr<CharDoorbell>> Create(EventLoop& loop,
                                                      std::function<bool()> on_ring,
                                                      std::chrono::nanoseconds pause = {}) {
    std::unique_ptr<CharDoorbell> bell(new CharDoorbell(loop, std::move(on_ring), pause));
    if (!bell->fd_) return FailErrno(ExitCode::kOsError, "eventfd", errno);
    if (!bell->timer_) return FailErrno(ExitCode::kOsError, "timerfd", errno);
    CharDoorbell* const self = bell.get();
    auto added = loop.AddFd(self->fd_.get(), EPOLLIN, [self](uint32_t) { self->OnRing(); });
    if (!added) return tl::unexpected(std::move(added.error()));
    added = loop.AddFd(self->timer_.get(), EPOLLIN, [self](uint32_t) { self->OnTimer(); });
    if (!added) return tl::unexpected(std::move(added.error()));
    return bell;
  }
  ~CharDoorbell() {
    loop_.RemoveFd(fd_.get());
    loop_.RemoveFd(timer_.get());
  }

  void Ring() {
    if (!rung_.exchange(true)) eventfd_write(fd_.get(), 1);
  }

 private:
  CharDoorbell(EventLoop& loop, std::function<bool()> on_ring, std::chrono::nanoseconds pause)
      : loop_(loop),
        on_ring_(std::move(on_ring)),
        pause_(pause),
        fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
        timer_(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)) {}

  void OnRing() {
    eventfd_t count;
    eventfd_read(fd_.get(), &count);
    if (!pausing_) Answer();
  }
  void OnTimer() {
    uint64_t count;
    if (read(timer_.get(), &count, sizeof count) != sizeof count) return;
    pausing_ = false;
    Answer();
  }
  void Answer() {
    rung_ = false;  // before the work: what comes now rings again
    if (!on_ring_() || pause_ == pause_.zero()) return;
    pausing_ = rung_ = true;  // who has rung since then is answered behind the pause as well
    const itimerspec once{.it_interval = {}, .it_value = {.tv_sec = 0, .tv_nsec = pause_.count()}};
    timerfd_settime(timer_.get(), 0, &once, nullptr);
  }

  EventLoop& loop_;
  const std::function<bool()> on_ring_;
  const std::chrono::nanoseconds pause_;  // under a second
  UniqueFd fd_, timer_;
  bool pausing_ = false;  // on the I/O thread
  std::atomic<bool> rung_{false};
};

}  // namespace vmm
