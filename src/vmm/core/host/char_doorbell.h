// Calls a function on the I/O thread soon after any thread has rung, many rings at once as one
// call.
#pragma once

#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <atomic>
#include <cerrno>
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
  static Result<std::unique_ptr<CharDoorbell>> Create(EventLoop& loop,
                                                      std::function<void()> on_ring) {
    std::unique_ptr<CharDoorbell> bell(new CharDoorbell(loop));
    if (!bell->fd_) return FailErrno(ExitCode::kOsError, "eventfd", errno);
    auto added = loop.AddFd(bell->fd_.get(), EPOLLIN,
                            [bell = bell.get(), on_ring = std::move(on_ring)](uint32_t) {
                              eventfd_t count;
                              eventfd_read(bell->fd_.get(), &count);
                              bell->rung_ = false;  // before the work: what comes now rings again
                              on_ring();
                            });
    if (!added) return tl::unexpected(std::move(added.error()));
    return bell;
  }
  ~CharDoorbell() { loop_.RemoveFd(fd_.get()); }

  void Ring() {
    if (!rung_.exchange(true)) eventfd_write(fd_.get(), 1);
  }

 private:
  explicit CharDoorbell(EventLoop& loop)
      : loop_(loop), fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

  EventLoop& loop_;
  UniqueFd fd_;
  std::atomic<bool> rung_{false};
};

}  // namespace vmm
