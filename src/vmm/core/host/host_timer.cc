#include "vmm/core/host/host_timer.h"

#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace vmm {

Result<std::unique_ptr<HostTimer>> HostTimer::Create(EventLoop& loop,
                                                     std::function<void()> callback) {
  std::unique_ptr<HostTimer> timer(new HostTimer(loop, std::move(callback)));
  timer->fd_ = UniqueFd(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC));
  if (timer->fd_.get() < 0) return FailErrno(ExitCode::kOsError, "can't make a timer", errno);
  const auto on_expiry = [raw = timer.get()](uint32_t) {
    uint64_t expirations;
    // Nothing to read: cancelled or started anew between the expiry and here.
    if (read(raw->fd_.get(), &expirations, sizeof expirations) == sizeof expirations) {
      raw->callback_();
    }
  };
  if (auto added = loop.AddFd(timer->fd_.get(), EPOLLIN, on_expiry); !added) {
    return tl::unexpected(std::move(added.error()));
  }
  return timer;
}

HostTimer::~HostTimer() {
  if (fd_.get() >= 0) loop_.RemoveFd(fd_.get());
}

void HostTimer::Start(std::chrono::nanoseconds delay) {
  Set(std::max(delay, std::chrono::nanoseconds(1)));
}

void HostTimer::Cancel() {
  Set(std::chrono::nanoseconds(0));
}

void HostTimer::Set(std::chrono::nanoseconds delay) {
  itimerspec spec{};
  spec.it_value.tv_sec = delay.count() / 1'000'000'000;
  spec.it_value.tv_nsec = delay.count() % 1'000'000'000;
  timerfd_settime(fd_.get(), 0, &spec, nullptr);
}

}  // namespace vmm
