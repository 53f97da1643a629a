#include "vmm/machine/supervisor.h"

#include <fmt/format.h>

#include <utility>

#include "vmm/core/base/log.h"

namespace vmm {
namespace {

int64_t SteadyNs() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// docs/config.md, accel_move.
bool MayMove(const Config& config) {
  return config.accel_move.value_or(config.accel == AccelChoice::kAuto);
}

std::string Seconds(std::chrono::milliseconds time) {
  return fmt::format("{:g} s", static_cast<double>(time.count()) / 1000);
}

}  // namespace

Supervisor::Supervisor(const Parts& parts, Hooks hooks)
    : config_(parts.config),
      loop_(parts.loop),
      clock_(parts.clock),
      vcpus_(parts.vcpus),
      hooks_(std::move(hooks)),
      power_(config_.on_reboot, config_.on_panic),
      panic_watcher_(Config::kConsoles,
                     {[this](std::string message) { OnPanicBegin(std::move(message)); },
                      [this] { Decide([this] { return power_.OnPanicSettled(); }); }}),
      hang_watch_(loop_, vcpus_, config_.hang_look,
                  [this] { DecideHere([this] { return power_.OnHang(); }); }),
      may_move_(MayMove(config_)) {}

Result<std::unique_ptr<Supervisor>> Supervisor::Create(const Parts& parts, Hooks hooks) {
  std::unique_ptr<Supervisor> supervisor(new Supervisor(parts, std::move(hooks)));
  if (auto made = supervisor->MakeTimers(); !made) return tl::unexpected(std::move(made.error()));
  return supervisor;
}

Result<void> Supervisor::MakeTimers() {
  const auto make = [this](std::unique_ptr<HostTimer>& timer,
                           std::function<void()> callback) -> Result<void> {
    auto made = HostTimer::Create(loop_, std::move(callback));
    if (!made) return tl::unexpected(std::move(made.error()));
    timer = std::move(*made);
    return {};
  };
  return make(panic_timer_, [this] { DecideHere([this] { return power_.OnPanicSettled(); }); })
      .and_then([&] {
        return make(grace_timer_, [this] {
          DecideHere([this] {
            return power_.OnStop("the guest did not power off within " +
                                 Seconds(config_.stop_timeout) + " of the power button");
          });
        });
      })
      .and_then([&] {
        return make(wall_timer_, [this] {
          DecideHere([this] {
            return power_.OnLimit(Limit::kWall,
                                  "the run took longer than " + Seconds(config_.limits.wall));
          });
        });
      })
      .and_then([&] { return make(idle_timer_, [this] { OnIdleTimer(); }); })
      .and_then([&] { return hang_watch_.Start(); });
}

void Supervisor::Decide(Event event) {
  vcpus_.Hold();
  loop_.Post([this, event = std::move(event), generation = generation_.load()] {
    Perform(generation == generation_.load() ? event() : PowerState::Action::kGoOn);
  });
}

void Supervisor::DecideHere(const Event& event) {
  vcpus_.Hold();
  Perform(event());
}

void Supervisor::Perform(PowerState::Action action) {
  switch (action) {
    case PowerState::Action::kGoOn:
      break;
    case PowerState::Action::kEnd:
      loop_.Stop();
      return;  // held for good
    case PowerState::Action::kReset:
      ResetMachine();
      break;
    case PowerState::Action::kPause:
      Log(LogLevel::kWarning, "the guest panicked; it is paused (on_panic = \"pause\")");
      PauseHere();
      break;
  }
  vcpus_.Release();
}

void Supervisor::ResetMachine() {
  vcpus_.WaitParked();
  ++generation_;
  panic_timer_->Cancel();
  power_.OnMachineReset();
  if (auto reset = hooks_.reset_machine(); !reset) {
    failure_ = Verdict{reset.error().code, "the reset failed: " + reset.error().message, {}};
    vcpus_.Hold();
    loop_.Stop();
    return;
  }
  hang_watch_.Reset();
}

void Supervisor::StandStill() {
  vcpus_.Pause();
  if (standing_++ == 0) clock_.Pause();
}

void Supervisor::GoOn() {
  if (--standing_ == 0) clock_.Resume();
  vcpus_.Release();
}

void Supervisor::PauseHere() {
  if (!std::exchange(paused_, true)) StandStill();
}

void Supervisor::ResumeHere() {
  if (std::exchange(paused_, false)) GoOn();
}

void Supervisor::OnPowerOff() {
  Decide([this] { return power_.OnPowerOff(); });
}

void Supervisor::OnDebugExit(uint32_t value) {
  Decide([this, value] { return power_.OnDebugExit(value); });
}

void Supervisor::OnResetRequest(std::string_view source) {
  Decide([this, source = std::string(source)] {
    const auto action = power_.OnResetRequest(source);
    if (action == PowerState::Action::kReset) {
      LogGuest(LogLevel::kInfo, "the guest reset itself (" + source + "); starting it again");
    }
    return action;
  });
}

void Supervisor::OnPvPanic() {
  Decide([this] {
    power_.OnPanicSeen("the guest kernel panicked (pvpanic)");
    return power_.OnPanicSettled();
  });
}

void Supervisor::OnPanicBegin(std::string message) {
  loop_.Post([this, message = std::move(message), generation = generation_.load()] {
    if (generation != generation_.load() || power_.panic_seen() || power_.ended()) return;
    // Where it ends the run, it is the reason that is told at the end.
    if (config_.on_panic != OnPanic::kExit) LogGuest(LogLevel::kWarning, message);
    power_.OnPanicSeen(message);
    panic_timer_->Start(kPanicSettles);
  });
}

void Supervisor::OnVcpuExit(unsigned id, const RunResult& result) {
  switch (result.exit) {
    case RunExit::kInterrupted:
      return;
    case RunExit::kHalted:
      loop_.Post([this] { hang_watch_.OnHalted(); });
      return;
    case RunExit::kShutdown:
      Decide([this, id] { return power_.OnTripleFault(id); });
      return;
    case RunExit::kDebug:
    case RunExit::kFailed:
      Decide([this, id, detail = result.detail, moves = moves_.load()] {
        if (moves != moves_.load()) return PowerState::Action::kGoOn;  // under the new engine
        const bool moved =
            may_move_ && !power_.ended() && MoveHere(detail, /*unasked=*/true).has_value();
        return moved ? PowerState::Action::kGoOn : power_.OnEngineFailed(id, detail);
      });
      return;
  }
}

void Supervisor::OnConsoleOutput(unsigned console, std::span<const uint8_t> data) {
  if (config_.limits.idle.count() > 0) {
    last_output_ns_.store(SteadyNs(), std::memory_order_relaxed);
  }
  // A socket carries a protocol: what a program in the guest has put into it is no kernel's.
  const bool is_protocol =
      console < config_.serial.size() && config_.serial[console].kind == ConsoleSpec::Kind::kSocket;
  if (!is_protocol) panic_watcher_.OnOutput(console, data);
}

void Supervisor::RequestStop(std::string who) {
  loop_.Post([this, who = std::move(who)] {
    if (stop_requested_ || paused_ || config_.stop_timeout.count() == 0) {
      DecideHere([&] { return power_.OnStop("stopped by " + who); });
      return;
    }
    stop_requested_ = true;
    Log(LogLevel::kInfo, who + ": pressing the power button; the guest has " +
                             Seconds(config_.stop_timeout) + " to power off");
    hooks_.press_power_button();
    grace_timer_->Start(config_.stop_timeout);
  });
}

void Supervisor::StopNow(std::string who) {
  loop_.Post([this, who = std::move(who)] {
    DecideHere([&] { return power_.OnStop("stopped by " + who); });
  });
}

void Supervisor::PressPowerButton() {
  loop_.Post([this] { hooks_.press_power_button(); });
}

void Supervisor::Ask(std::function<Result<void>()> work, Done done) {
  loop_.Post([this, work = std::move(work), done = std::move(done)] {
    const bool is_over = power_.ended() || failure_;
    Result<void> result = is_over ? Fail(ExitCode::kUnavailable, "the run is over") : work();
    if (done) done(std::move(result));
  });
}

void Supervisor::Pause(Done done) {
  Ask(
      [this]() -> Result<void> {
        PauseHere();
        return {};
      },
      std::move(done));
}

void Supervisor::Resume(Done done) {
  Ask(
      [this]() -> Result<void> {
        ResumeHere();
        return {};
      },
      std::move(done));
}

void Supervisor::Reset(Done done) {
  Ask(
      [this]() -> Result<void> {
        DecideHere([] { return PowerState::Action::kReset; });
        if (failure_) return Fail(failure_->code, failure_->reason);
        return {};
      },
      std::move(done));
}

// What the vCPUs have done until they parked is decided first: those events are posted by then, and
// would be lost with this process.
void Supervisor::Suspend(std::string who, Done done) {
  loop_.Post([this, who = std::move(who), done = std::move(done)]() mutable {
    vcpus_.Pause();
    Ask([this, who = std::move(who)] { return SuspendHere(who); }, std::move(done));
  });
}

Result<void> Supervisor::SuspendHere(const std::string& who) {
  Result<void> saved;
  if (config_.suspend_file.empty()) {
    saved = Fail(ExitCode::kUnavailable, "no file to suspend to is named; use --suspend-to FILE");
  } else if (power_.panic_seen()) {
    saved = Fail(ExitCode::kUnavailable, "its kernel panicked");
  } else {
    const bool was_running = clock_.running();
    clock_.Pause();
    saved = hooks_.save_machine();
    if (saved) {
      Perform(power_.OnSuspended(fmt::format("{} by {}", config_.suspend_file.string(), who)));
      return saved;
    }
    if (was_running) clock_.Resume();
  }
  saved = tl::unexpected(
      std::move(saved.error()).WithContext("the guest is not suspended and goes on"));
  Log(LogLevel::kError, saved.error().message);
  vcpus_.Release();
  return saved;
}

void Supervisor::Move(std::string who, Done done) {
  Ask(
      [this, who = std::move(who)] {
        vcpus_.Hold();
        auto moved = MoveHere(who, /*unasked=*/false);
        vcpus_.Release();
        return moved;
      },
      std::move(done));
}

void Supervisor::LeaveEngine(std::string why) {
  if (!may_move_) return;
  loop_.Post([this, why = std::move(why), moves = moves_.load()] {
    if (power_.ended() || moves != moves_.load()) return;
    vcpus_.Hold();
    MoveHere(why, /*unasked=*/true);
    vcpus_.Release();
  });
}

Result<void> Supervisor::MoveHere(const std::string& why, bool unasked) {
  vcpus_.WaitParked();
  const bool was_running = clock_.running();
  clock_.Pause();
  Log(LogLevel::kInfo, "moving to another engine: " + why);
  auto moved = hooks_.move_machine(unasked);
  if (moved) {
    ++moves_;
  } else {
    Log(LogLevel::kError, "the machine does not move: " + moved.error().message);
  }
  if (was_running) clock_.Resume();
  return moved;
}

void Supervisor::StartLimits() {
  if (config_.limits.wall.count() > 0) wall_timer_->Start(config_.limits.wall);
  last_output_ns_ = SteadyNs();
  if (config_.limits.idle.count() > 0) idle_timer_->Start(config_.limits.idle);
}

void Supervisor::OnIdleTimer() {
  if (standing_ > 0) last_output_ns_ = SteadyNs();  // it can't speak
  const std::chrono::nanoseconds silent(SteadyNs() - last_output_ns_.load());
  if (silent < config_.limits.idle) {
    idle_timer_->Start(config_.limits.idle - silent);
    return;
  }
  DecideHere([this] {
    return power_.OnLimit(Limit::kIdle,
                          "the guest printed nothing for " + Seconds(config_.limits.idle));
  });
}

Verdict Supervisor::Run() {
  started_ = std::chrono::steady_clock::now();
  StartLimits();
  if (standing_ == 0) clock_.Resume();
  vcpus_.Release();
  // Stop() may also come from an event that PowerState does not end on; go on until one does.
  while (!power_.ended() && !failure_) loop_.Run();
  return failure_ ? *failure_ : power_.verdict();
}

std::chrono::milliseconds Supervisor::uptime() const {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() -
                                                               started_);
}

}  // namespace vmm
