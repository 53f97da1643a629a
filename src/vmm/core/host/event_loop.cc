#include "vmm/core/host/event_loop.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <span>
#include <utility>

#include "vmm/core/base/check.h"

namespace vmm {
namespace {

constexpr int kEventsPerRound = 64;

// An epoll event names its handler by descriptor and generation: an event that was fetched before
// RemoveFd() must not reach whoever got the same number afterwards.
constexpr uint64_t Key(int fd, uint32_t generation) {
  return uint64_t{generation} << 32 | static_cast<uint32_t>(fd);
}

void Drain(int fd) {
  uint64_t count;
  [[maybe_unused]] const ssize_t n = read(fd, &count, sizeof count);
}

}  // namespace

// Guarded by the loop's mutex_; the callback is shared so that it survives its timer's end.
class EventLoop::LoopTimer final : public Timer, public TimerNode {
 public:
  LoopTimer(EventLoop& loop, std::function<void()> callback)
      : loop_(loop),
        callback_(std::make_shared<const std::function<void()>>(std::move(callback))) {}

  ~LoopTimer() override {
    std::unique_lock lock(loop_.mutex_);
    ending_ = true;
    loop_.timers_.Remove(*this);
    loop_.WaitWhileRunning(lock, this);
  }
  void Arm(Nanoseconds deadline) override { loop_.ArmTimer(*this, deadline); }
  void Disarm() override {
    std::lock_guard lock(loop_.mutex_);
    loop_.timers_.Remove(*this);
  }
  std::shared_ptr<const std::function<void()>> callback() const { return callback_; }
  bool ending() const { return ending_; }  // a callback that is waited for can't arm it again

 private:
  EventLoop& loop_;
  const std::shared_ptr<const std::function<void()>> callback_;
  bool ending_ = false;
};

Result<std::unique_ptr<EventLoop>> EventLoop::Create(const Clock& clock) {
  std::unique_ptr<EventLoop> loop(new EventLoop(clock));
  if (auto opened = loop->Open(); !opened) return tl::unexpected<Error>(opened.error());
  clock.AddListener(*loop);
  return loop;
}

Result<void> EventLoop::Open() {
  epoll_ = UniqueFd(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_) return FailErrno(ExitCode::kOsError, "epoll_create1", errno);
  wake_ = UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake_) return FailErrno(ExitCode::kOsError, "eventfd", errno);
  timer_fd_ = UniqueFd(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  if (!timer_fd_) return FailErrno(ExitCode::kOsError, "timerfd_create", errno);
  for (const int fd : {wake_.get(), timer_fd_.get()}) {
    epoll_event event{.events = EPOLLIN, .data = {.u64 = Key(fd, 0)}};
    if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
      return FailErrno(ExitCode::kOsError, "epoll_ctl", errno);
    }
  }
  return {};
}

EventLoop::~EventLoop() {
  clock_.RemoveListener(*this);
  CHECK(timers_.empty());
}

Result<void> EventLoop::AddFd(int fd, uint32_t epoll_events,
                              std::function<void(uint32_t)> callback) {
  std::lock_guard lock(mutex_);
  const uint32_t generation = next_generation_++;
  epoll_event event{.events = epoll_events, .data = {.u64 = Key(fd, generation)}};
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    return FailErrno(ExitCode::kOsError, "epoll_ctl", errno);
  }
  handlers_[fd] = {generation,
                   std::make_shared<const std::function<void(uint32_t)>>(std::move(callback))};
  return {};
}

void EventLoop::ModifyFd(int fd, uint32_t epoll_events) {
  std::lock_guard lock(mutex_);
  const auto handler = handlers_.find(fd);
  if (handler == handlers_.end()) return;
  epoll_event event{.events = epoll_events, .data = {.u64 = Key(fd, handler->second.generation)}};
  epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event);
}

void EventLoop::RemoveFd(int fd) {
  FdHandler removed{};  // destroyed after the lock is gone: a callback may own anything
  std::unique_lock lock(mutex_);
  const auto handler = handlers_.find(fd);
  if (handler == handlers_.end()) return;
  removed = std::move(handler->second);
  handlers_.erase(handler);
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
  WaitWhileRunning(lock, removed.callback.get());
}

void EventLoop::Post(std::function<void()> work) {
  bool first;
  {
    std::lock_guard lock(mutex_);
    first = posted_.empty();
    posted_.push_back(std::move(work));
  }
  if (first) Wake();
}

std::unique_ptr<Timer> EventLoop::NewTimer(std::function<void()> callback) {
  return std::make_unique<LoopTimer>(*this, std::move(callback));
}

void EventLoop::Run() {
  io_thread_ = std::this_thread::get_id();
  while (!stop_.exchange(false)) Iterate(true);
  io_thread_ = std::thread::id();
}

void EventLoop::Stop() {
  stop_ = true;
  Wake();
}

void EventLoop::RunPending() {
  const std::thread::id outer = io_thread_.exchange(std::this_thread::get_id());
  Iterate(false);
  io_thread_ = outer;
}

void EventLoop::Wake() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t n = write(wake_.get(), &one, sizeof one);
}

void EventLoop::Iterate(bool wait) {
  std::array<epoll_event, kEventsPerRound> events;
  const int count = epoll_wait(epoll_.get(), events.data(), kEventsPerRound, wait ? -1 : 0);
  const std::span ready(events.data(), static_cast<size_t>(std::max(count, 0)));  // EINTR: none
  // Our own two first: RunTimers sets the timer anew, RunPosted takes what was woken for.
  for (const epoll_event& event : ready) {
    if (event.data.u64 == Key(timer_fd_.get(), 0)) Drain(timer_fd_.get());
    if (event.data.u64 == Key(wake_.get(), 0)) Drain(wake_.get());
  }
  RunTimers();
  for (const epoll_event& event : ready) {
    if (event.data.u64 >> 32 != 0) Dispatch(event.data.u64, event.events);
  }
  RunPosted();
}

void EventLoop::Dispatch(uint64_t key, uint32_t events) {
  std::shared_ptr<const std::function<void(uint32_t)>> callback;
  {
    std::lock_guard lock(mutex_);
    const auto handler = handlers_.find(static_cast<int>(key & 0xffffffff));
    if (handler == handlers_.end() || handler->second.generation != key >> 32) return;
    callback = handler->second.callback;
    running_ = callback.get();
  }
  (*callback)(events);
  FinishCallback();
}

void EventLoop::RunPosted() {
  std::vector<std::function<void()>> work;
  {
    std::lock_guard lock(mutex_);
    work.swap(posted_);
  }
  for (std::function<void()>& item : work) item();
}

// Expires what is due, each timer at most once on average: callbacks that arm their timers for the
// past again do not keep descriptors from being served.
void EventLoop::RunTimers() {
  if (!clock_.running()) return;
  const Nanoseconds now = clock_.Now();
  std::unique_lock lock(mutex_);
  timer_fd_deadline_ = kInRunTimers;
  for (size_t left = timers_.size(); left > 0 && !timers_.empty(); --left) {
    if (timers_.first()->deadline > now) break;
    auto& timer = static_cast<LoopTimer&>(*timers_.first());
    timers_.Remove(timer);
    const auto callback = timer.callback();
    running_ = &timer;
    lock.unlock();
    (*callback)();
    FinishCallback();
    lock.lock();
  }
  timer_fd_deadline_ = kNotSet;
  SetTimerFd();
}

void EventLoop::FinishCallback() {
  bool wake;
  {
    std::lock_guard lock(mutex_);
    running_ = nullptr;
    wake = waiters_ > 0;
  }
  if (wake) callback_done_.notify_all();
}

void EventLoop::WaitWhileRunning(std::unique_lock<std::mutex>& lock, const void* owner) {
  if (running_ != owner || OnIoThread()) return;
  ++waiters_;
  callback_done_.wait(lock, [&] { return running_ != owner; });
  --waiters_;
}

void EventLoop::ArmTimer(LoopTimer& timer, Nanoseconds deadline) {
  std::lock_guard lock(mutex_);
  if (timer.ending()) return;
  timers_.Set(timer, deadline);
  if (deadline < timer_fd_deadline_) SetTimerFd();
}

void EventLoop::SetTimerFd() {
  if (timers_.empty() || !clock_.running()) return;  // OnClockChange() comes when it runs
  const Nanoseconds first = timers_.first()->deadline;
  if (first >= timer_fd_deadline_) return;
  // At least one nanosecond: zero would switch it off. At most a year: no overflow below.
  const int64_t ns = std::clamp<int64_t>(
      first.count() - clock_.Now().count(), 1,
      std::chrono::duration_cast<Nanoseconds>(std::chrono::hours(24 * 365)).count());
  const itimerspec spec{.it_interval = {},
                        .it_value = {.tv_sec = ns / 1'000'000'000, .tv_nsec = ns % 1'000'000'000}};
  timerfd_settime(timer_fd_.get(), 0, &spec, nullptr);
  timer_fd_deadline_ = first;
}

// RunTimers looks at the clock anew and sets the descriptor; one that was set before fires in vain.
void EventLoop::OnClockChange() {
  Wake();
}

}  // namespace vmm
