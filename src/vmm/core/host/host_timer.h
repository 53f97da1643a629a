// A timer that counts the host's time, also while the machine stands still: grace times and limits.
#pragma once

#include <chrono>
#include <functional>
#include <memory>

#include "vmm/core/base/result.h"
#include "vmm/core/host/event_loop.h"
#include "vmm/core/host/unique_fd.h"

namespace vmm {

// The I/O thread only.
class HostTimer {
 public:
  // `callback` runs on the I/O thread, once each time the timer expires.
  static Result<std::unique_ptr<HostTimer>> Create(EventLoop& loop, std::function<void()> callback);
  HostTimer(const HostTimer&) = delete;
  HostTimer& operator=(const HostTimer&) = delete;
  ~HostTimer();

  // Expires once, `delay` from now; a delay of zero: as soon as possible.
  void Start(std::chrono::nanoseconds delay);
  void Cancel();

 private:
  HostTimer(EventLoop& loop, std::function<void()> callback)
      : loop_(loop), callback_(std::move(callback)) {}
  void Set(std::chrono::nanoseconds delay);

  EventLoop& loop_;
  const std::function<void()> callback_;
  UniqueFd fd_;
};

}  // namespace vmm
