// What may be asked of a running machine over its control socket, and how each is done.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "vmm/config/config.h"
#include "vmm/control/answer.h"
#include "vmm/control/server.h"
#include "vmm/core/host/event_loop.h"
#include "vmm/machine/supervisor.h"

namespace vmm {

// The I/O thread only. The socket is there from Open() to the destructor, also while the machine
// goes down.
class MachineControl {
 public:
  struct Hooks {
    std::function<control::Status()> status;
    std::function<std::vector<control::EngineStatistics>()> statistics;  // the vCPUs are parked
    std::function<std::vector<control::DiskStatus>()> disks;
    std::function<std::vector<control::NetStatus>()> nets;
    std::function<Result<void>(const std::string& net, bool up)> set_link;
  };
  // On Config::control. The supervisor outlives the loop's last round only: Finish() comes before
  // it goes.
  static Result<std::unique_ptr<MachineControl>> Open(const Config& config, EventLoop& loop,
                                                      Supervisor& supervisor, Hooks hooks);

  // The run is over and the loop runs no more: who waited for that hears of it.
  void Finish(const RunOutcome& outcome);

 private:
  using Ticket = control::Server::Ticket;

  MachineControl(Supervisor& supervisor, Hooks hooks)
      : supervisor_(supervisor), hooks_(std::move(hooks)) {}
  void OnRequest(Ticket ticket, const control::Request& request);
  void OnStop(Ticket ticket, bool force);
  void OnLink(Ticket ticket, const control::Request& request);
  void OnPowerdown(Ticket ticket);
  // An answer that comes once the supervisor has done it: {"KEY": value()}.
  Supervisor::Done AnswerWith(Ticket ticket, std::string key, std::function<std::string()> value);

  Supervisor& supervisor_;
  const Hooks hooks_;
  std::vector<Ticket> pending_;     // unanswered
  std::vector<Ticket> waiting_;     // for the end
  std::optional<std::string> end_;  // JSON: the run is over
  std::unique_ptr<control::Server> server_;
};

}  // namespace vmm
