#include "vmm/machine/machine_control.h"

#include <unistd.h>

#include <utility>

namespace vmm {

using control::Command;

Result<std::unique_ptr<MachineControl>> MachineControl::Open(const Config& config, EventLoop& loop,
                                                             Supervisor& supervisor, Hooks hooks) {
  std::unique_ptr<MachineControl> made(new MachineControl(supervisor, std::move(hooks)));
  MachineControl* const self = made.get();
  auto server = control::Server::Listen(
      config.control.string(), control::GreetingLine({config.name, getpid()}), loop,
      [self](Ticket ticket, const control::Request& request) { self->OnRequest(ticket, request); },
      {});
  if (!server) return tl::unexpected(std::move(server.error()).WithContext("control"));
  made->server_ = std::move(*server);
  return made;
}

Supervisor::Done MachineControl::AnswerWith(Ticket ticket, std::string key,
                                            std::function<std::string()> value) {
  pending_.push_back(ticket);
  return [this, ticket, key = std::move(key), value = std::move(value)](Result<void> done) {
    std::erase(pending_, ticket);
    server_->Answer(ticket, done.map([&] { return control::TextToJson(key, value()); }));
  };
}

void MachineControl::OnRequest(Ticket ticket, const control::Request& request) {
  const auto state = [this] { return std::string(supervisor_.is_paused() ? "paused" : "running"); };
  if (end_) {
    const bool waits = request.command == Command::kWait;
    return server_->Answer(ticket, waits ? Result<std::string>(*end_)
                                         : Fail(ExitCode::kUnavailable, "the run is over"));
  }
  switch (request.command) {
    case Command::kStatus:
      return server_->Answer(ticket, control::ToJson(hooks_.status()));
    case Command::kStats:
      return server_->Answer(ticket, control::ToJson(supervisor_.WhileParked(hooks_.statistics)));
    case Command::kDisk:
      return server_->Answer(ticket, control::ToJson(hooks_.disks()));
    case Command::kLink:
      return OnLink(ticket, request);
    case Command::kPause:
      return supervisor_.Pause(AnswerWith(ticket, "state", state));
    case Command::kResume:
      return supervisor_.Resume(AnswerWith(ticket, "state", state));
    case Command::kReset:
      return supervisor_.Reset(AnswerWith(ticket, "state", state));
    case Command::kSuspend:
      return supervisor_.Suspend(
          "vmm ctl", AnswerWith(ticket, "file", [this] { return hooks_.status().suspend_file; }));
    case Command::kMove:
      return supervisor_.Move(
          "vmm ctl", AnswerWith(ticket, "engine", [this] { return hooks_.status().engine; }));
    case Command::kPowerdown:
      return OnPowerdown(ticket);
    case Command::kStop:
      return OnStop(ticket, request.force);
    case Command::kWait:
      waiting_.push_back(ticket);
      return;
  }
}

void MachineControl::OnLink(Ticket ticket, const control::Request& request) {
  const auto done = request.up ? hooks_.set_link(request.net, *request.up) : Result<void>();
  server_->Answer(ticket, done.map([&] { return control::ToJson(hooks_.nets()); }));
}

void MachineControl::OnPowerdown(Ticket ticket) {
  if (supervisor_.is_paused()) {
    return server_->Answer(ticket, Fail(ExitCode::kUnavailable,
                                        "the guest is paused and would not see the power button; "
                                        "fix: vmm ctl resume"));
  }
  supervisor_.PressPowerButton();
  server_->Answer(ticket, control::TextToJson("pressed", "power button"));
}

void MachineControl::OnStop(Ticket ticket, bool force) {
  server_->Answer(ticket, control::TextToJson("stopping", force ? "at once" : "politely"));
  if (force) {
    supervisor_.StopNow("vmm ctl");
  } else {
    supervisor_.RequestStop("vmm ctl");
  }
}

void MachineControl::Finish(const RunOutcome& outcome) {
  end_ = control::EndToJson(outcome);
  for (const Ticket ticket : std::exchange(waiting_, {})) server_->Answer(ticket, *end_);
  for (const Ticket ticket : std::exchange(pending_, {})) {
    server_->Answer(ticket,
                    Fail(ExitCode::kUnavailable, "the run ended before: " + outcome.reason));
  }
  server_->Finish();
}

}  // namespace vmm
