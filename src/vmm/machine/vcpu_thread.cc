#include "vmm/machine/vcpu_thread.h"

#include <pthread.h>
#include <time.h>

#include <system_error>

#include "vmm/core/base/check.h"

namespace vmm {

VcpuThread::VcpuThread(unsigned id, Vcpu& vcpu, ExitHandler on_exit)
    : id_(id), vcpu_(&vcpu), on_exit_(std::move(on_exit)) {}

VcpuThread::~VcpuThread() {
  Stop();
}

VcpuThread::State VcpuThread::state() const {
  std::lock_guard lock(mutex_);
  return state_;
}

Result<void> VcpuThread::Start() {
  std::lock_guard lock(mutex_);
  CHECK(state_ == State::kCreated);
  try {
    thread_ = std::thread([this] { Main(); });
  } catch (const std::system_error& error) {
    return Fail(ExitCode::kOsError,
                "can't start the thread of vCPU " + std::to_string(id_) + ": " + error.what());
  }
  pthread_setname_np(thread_.native_handle(), ("vcpu" + std::to_string(id_)).c_str());
  state_ = State::kPaused;
  return {};
}

void VcpuThread::RequestPause() {
  {
    std::lock_guard lock(mutex_);
    if (pause_wanted_) return;
    pause_wanted_ = true;
  }
  vcpu_.load()->Kick();
}

void VcpuThread::WaitPaused() {
  std::unique_lock lock(mutex_);
  told_.wait(lock, [this] { return state_ != State::kRunning || !pause_wanted_; });
}

void VcpuThread::Resume() {
  std::lock_guard lock(mutex_);
  pause_wanted_ = false;
  wake_.notify_all();
}

void VcpuThread::Call(const std::function<void(Vcpu&)>& work) {
  std::unique_lock lock(mutex_);
  CHECK(pause_wanted_ && !stop_wanted_ && thread_.joinable());
  CHECK(std::this_thread::get_id() != thread_.get_id());
  told_.wait(lock, [this] { return work_ == nullptr; });
  work_ = &work;
  wake_.notify_all();
  told_.wait(lock, [&] { return work_ != &work; });
}

void VcpuThread::Exchange(Vcpu& vcpu) {
  std::lock_guard lock(mutex_);
  CHECK(state_ == State::kPaused && pause_wanted_ && work_ == nullptr);
  vcpu_ = &vcpu;
}

void VcpuThread::Stop() {
  {
    std::lock_guard lock(mutex_);
    stop_wanted_ = true;
    pause_wanted_ = true;
    if (!thread_.joinable()) {
      state_ = State::kStopped;
      return;
    }
    CHECK(std::this_thread::get_id() != thread_.get_id());
    wake_.notify_all();
  }
  vcpu_.load()->Kick();
  thread_.join();
}

std::chrono::nanoseconds VcpuThread::CpuTime() const {
  std::lock_guard lock(mutex_);
  if (state_ != State::kRunning && state_ != State::kPaused) return {};
  clockid_t clock;
  timespec used{};
  // The thread can't be joined while we hold the mutex in these states.
  if (pthread_getcpuclockid(const_cast<std::thread&>(thread_).native_handle(), &clock) != 0 ||
      clock_gettime(clock, &used) != 0) {
    return {};
  }
  return std::chrono::seconds(used.tv_sec) + std::chrono::nanoseconds(used.tv_nsec);
}

bool VcpuThread::Park(std::unique_lock<std::mutex>& lock) {
  state_ = State::kPaused;
  told_.notify_all();
  while (!stop_wanted_ && (pause_wanted_ || work_ != nullptr)) {
    if (work_ != nullptr) {
      const auto* work = work_;
      lock.unlock();
      (*work)(*vcpu_.load());
      lock.lock();
      work_ = nullptr;
      told_.notify_all();
      continue;
    }
    wake_.wait(lock);
  }
  if (stop_wanted_) return false;
  state_ = State::kRunning;
  return true;
}

void VcpuThread::Main() {
  std::unique_lock lock(mutex_);
  for (;;) {
    if ((pause_wanted_ || stop_wanted_) && !Park(lock)) break;
    state_ = State::kRunning;
    lock.unlock();
    const RunResult result = vcpu_.load()->Run();
    lock.lock();
    if (result.exit == RunExit::kInterrupted) continue;
    if (result.exit != RunExit::kHalted) pause_wanted_ = true;
    lock.unlock();
    on_exit_(id_, result);
    lock.lock();
  }
  state_ = State::kStopped;
  told_.notify_all();
}

}  // namespace vmm
