#include <CLI/CLI.hpp>

#include "vmm/cli/ctl_options.h"

namespace vmm {
namespace {

using control::Command;

constexpr const char* kFooter =
    "The machine is that of --socket or --config, or else of the vm.toml in this directory.\n"
    "docs/control.md tells more.";

struct Row {
  Command command;
  bool ends;  // the machine, so that one may wait for its end
  const char* help;
};

constexpr Row kRows[] = {
    {Command::kStatus, false, "Say how the machine is"},
    {Command::kStats, false, "Say what its engine has done so far"},
    {Command::kDisk, false, "List its disks"},
    {Command::kLink, false, "List its network cards, or plug the cable of one in or pull it out"},
    {Command::kPause, false, "Let guest and guest time stand still"},
    {Command::kResume, false, "Let a paused guest go on"},
    {Command::kSuspend, true, "Save the machine to its suspend_file and end"},
    {Command::kPowerdown, true, "Press the power button; the guest decides"},
    {Command::kReset, false, "Start the guest anew, without asking it"},
    {Command::kStop, true, "Press the power button, and end by force after stop_timeout"},
    {Command::kMove, false, "Go on under another engine"},
    {Command::kWait, false, "Wait until the machine has ended, and say how"},
};

void AddCommon(CLI::App& app, CtlOptions* options) {
  app.footer(kFooter);
  app.allow_extras();
  app.add_option("-s,--socket", options->socket, "The control socket of the machine")
      ->type_name("PATH");
  app.add_option("-c,--config", options->config, "The vm.toml, or the directory that holds it")
      ->type_name("FILE");
}

}  // namespace

void AddCtlActions(CLI::App& ctl, CtlOptions* options) {
  ctl.require_subcommand(1);
  AddCommon(ctl, options);
  ctl.add_flag("--json", options->json, "Print the machine's answer as JSON");
  for (const Row& row : kRows) {
    CLI::App& app = *ctl.add_subcommand(std::string(NameOf(row.command)), row.help);
    AddCommon(app, options);
    app.add_flag("--json", options->json, "Print the machine's answer as JSON");
    if (row.ends) app.add_flag("--wait", options->wait, "Return once the machine has ended");
    if (row.command == Command::kStop) {
      app.add_flag("--force", options->request.force, "At once, as if the plug was pulled");
    }
    if (row.command == Command::kLink) {
      auto* net = app.add_option("card", options->request.net, "net0, net1 ...")->type_name("CARD");
      auto* up =
          app.add_option_function<std::string>(
                 "state",
                 [options](const std::string& state) { options->request.up = state == "up"; },
                 "What becomes of its cable")
              ->type_name("up|down")
              ->check(CLI::IsMember({"up", "down"}));
      net->needs(up);
    }
    app.callback([options, &row] {
      options->action = CtlOptions::Action::kAsk;
      options->request.command = row.command;
    });
  }
  CLI::App& attach = *ctl.add_subcommand(
      "attach", "Connect this terminal with a console; Ctrl-A d leaves it, the guest goes on");
  AddCommon(attach, options);
  attach.add_option("console", options->console, "serial0 to serial3 (serial0)")
      ->type_name("CONSOLE");
  attach.callback([options] { options->action = CtlOptions::Action::kAttach; });
}

}  // namespace vmm
