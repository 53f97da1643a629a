// One thread that runs one vCPU, with an explicit state machine.
//
//   created --Start--> running <--RequestPause/Resume--> paused
//                         \------------Stop--------------/----> stopped
//
// The thread parks in `paused` by itself after an exit that the machine must decide about.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

#include "vmm/core/accel/accelerator.h"

namespace vmm {

class VcpuThread {
 public:
  enum class State { kCreated, kRunning, kPaused, kStopped };

  // Hears, on the vCPU's own thread, of every exit but kInterrupted. After kHalted the thread goes
  // on into Run(), where the processor sleeps until NMI or INIT; after any other exit it parks.
  using ExitHandler = std::function<void(unsigned id, const RunResult& result)>;

  VcpuThread(unsigned id, Vcpu& vcpu, ExitHandler on_exit);
  VcpuThread(const VcpuThread&) = delete;
  VcpuThread& operator=(const VcpuThread&) = delete;
  ~VcpuThread();  // Stop()

  unsigned id() const { return id_; }
  State state() const;

  // Makes the thread ("vcpuN"), in state `paused`. kOsError when the host gives no thread.
  Result<void> Start();

  // Any thread, the vCPU's own included: the vCPU leaves the guest soon. Does not wait.
  void RequestPause();
  // Waits until the thread is parked. Not on the vCPU's own thread.
  void WaitPaused();
  // Undoes RequestPause. Any thread.
  void Resume();

  // Runs `work` on the vCPU's own thread, which must be parked (or about to be), and waits for it.
  // This is how Save and Load reach the vCPU.
  void Call(const std::function<void(Vcpu&)>& work);

  // From the next Call() or Run() on the thread drives `vcpu`. Only while parked.
  void Exchange(Vcpu& vcpu);

  // Ends and joins the thread. Idempotent; not on the vCPU's own thread.
  void Stop();

  // CPU time that the thread has used; zero unless it was started and is not stopped.
  std::chrono::nanoseconds CpuTime() const;

 private:
  void Main();
  // What the thread does next, decided under the mutex. False: end.
  bool Park(std::unique_lock<std::mutex>& lock);

  const unsigned id_;
  std::atomic<Vcpu*> vcpu_;  // a late Kick() of the one before is harmless
  const ExitHandler on_exit_;

  mutable std::mutex mutex_;
  std::condition_variable wake_;  // for the vCPU thread
  std::condition_variable told_;  // for those who wait for it
  State state_ = State::kCreated;
  bool pause_wanted_ = true;
  bool stop_wanted_ = false;
  const std::function<void(Vcpu&)>* work_ = nullptr;
  std::thread thread_;
};

}  // namespace vmm
