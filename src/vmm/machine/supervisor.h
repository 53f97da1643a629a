// Watches over one run: hears of everything that may end, reset or pause the machine, brings it to
// the I/O thread, has PowerState decide and carries the decision out.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <string_view>

#include "vmm/config/config.h"
#include "vmm/core/host/event_loop.h"
#include "vmm/core/host/host_timer.h"
#include "vmm/core/time/clock.h"
#include "vmm/machine/hang_watch.h"
#include "vmm/machine/panic_watcher.h"
#include "vmm/machine/power_state.h"
#include "vmm/machine/vcpu_set.h"

namespace vmm {

class Supervisor {
 public:
  // After the first line of a panic the kernel may go on printing for this long.
  static constexpr std::chrono::milliseconds kPanicSettles{700};

  struct Parts {  // all outlive the supervisor
    const Config& config;
    EventLoop& loop;
    MachineClock& clock;
    VcpuSet& vcpus;
  };
  struct Hooks {  // on the I/O thread
    // Brings devices, memory and vCPUs to the state of power-on. The vCPUs are parked.
    std::function<Result<void>()> reset_machine;
    std::function<void()> press_power_button;
    // Writes the whole machine to Config::suspend_file. The vCPUs are parked, the clock stands.
    std::function<Result<void>()> save_machine;
    // The machine goes on under its other engine; the vCPUs are parked, the clock stands. On an
    // error it is still under the old one.
    std::function<Result<void>(bool unasked)> move_machine;
  };

  static Result<std::unique_ptr<Supervisor>> Create(const Parts& parts, Hooks hooks);

  // --- What the guest does: any thread, usually the vCPU's own. The guest stands still from here
  // until the decision. ---
  void OnPowerOff();
  void OnDebugExit(uint32_t value);
  void OnResetRequest(std::string_view source);
  void OnPvPanic();
  void OnVcpuExit(unsigned id, const RunResult& result);
  void OnConsoleOutput(unsigned console, std::span<const uint8_t> data);

  // --- What the host asks for: any thread. `done` is called on the I/O thread once it is done, or
  // could not be (kUnavailable: the run is over); unless the run ends before. ---
  using Done = std::function<void(Result<void>)>;
  // A polite request first (power button, then force after Config::stop_timeout), force when it is
  // repeated. `who` for the admin: "SIGTERM".
  void RequestStop(std::string who);
  void StopNow(std::string who);
  void PressPowerButton();
  void Pause(Done done = {});
  void Resume(Done done = {});
  void Reset(Done done = {});
  // Saves the machine and ends the run with kSuspended. When that fails the guest goes on.
  void Suspend(std::string who, Done done = {});
  // Moves the machine to its other engine; when that fails the guest goes on where it is.
  void Move(std::string who, Done done = {});
  // The engine under which the machine runs at this moment is bad: moves away from it, if that is
  // allowed. Once it has moved, later complaints about the old engine are of no interest.
  void LeaveEngine(std::string why);

  // --- Of the I/O thread. ---
  bool is_paused() const { return paused_; }
  // `look()` with every vCPU parked; the guest goes on afterwards, if it ran.
  template <class Look>
  auto WhileParked(const Look& look) {
    vcpus_.Pause();
    auto seen = look();
    vcpus_.Release();
    return seen;
  }

  // --- A debugger's: the I/O thread, also before Run(). The guest and its time stand from the
  // first StandStill() to the last GoOn(). ---
  void StandStill();
  void GoOn();

  // Lets the guest run and returns when an outcome exists; the vCPUs are held then. Once, on the
  // thread that becomes the I/O thread; VcpuSet::Start() was called.
  Verdict Run();
  std::chrono::milliseconds uptime() const;  // host time since Run() was called
  std::vector<std::string> LastConsoleLines() const { return panic_watcher_.LastLines(); }

 private:
  using Event = std::function<PowerState::Action()>;

  Supervisor(const Parts& parts, Hooks hooks);
  Result<void> MakeTimers();

  // Holds the guest and decides on the I/O thread. Events of a guest that has been reset meanwhile
  // are dropped.
  void Decide(Event event);
  // On the I/O thread, with one hold that this call gives back or keeps.
  void Perform(PowerState::Action action);
  void DecideHere(const Event& event);
  void ResetMachine();
  Result<void> SuspendHere(const std::string& who);
  Result<void> MoveHere(const std::string& why,
                        bool unasked);  // with a hold that stays the caller's
  // Posts `work` for the I/O thread; what it returns goes to `done`.
  void Ask(std::function<Result<void>()> work, Done done);
  void PauseHere();
  void ResumeHere();
  void OnPanicBegin(std::string message);
  void StartLimits();
  void OnIdleTimer();

  const Config& config_;
  EventLoop& loop_;
  MachineClock& clock_;
  VcpuSet& vcpus_;
  const Hooks hooks_;

  PowerState power_;
  PanicWatcher panic_watcher_;
  HangWatch hang_watch_;
  std::unique_ptr<HostTimer> panic_timer_, grace_timer_, wall_timer_, idle_timer_;
  std::atomic<unsigned> generation_{0};  // counts resets of the machine
  std::atomic<int64_t> last_output_ns_{0};
  std::chrono::steady_clock::time_point started_;
  std::optional<Verdict> failure_;  // of a reset
  unsigned standing_ = 0;           // reasons why the guest and its time stand: one hold each
  bool paused_ = false;             // by the admin or by on_panic: one of them
  std::atomic<unsigned> moves_{0};
  bool stop_requested_ = false;
  const bool may_move_;  // to another engine, unasked
};

}  // namespace vmm
