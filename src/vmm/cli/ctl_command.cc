#include <vector>

#include "vmm/cli/commands.h"
#include "vmm/cli/ctl_parts.h"
#include "vmm/cli/output.h"
#include "vmm/control/client.h"

namespace vmm {
namespace {

using control::Command;

Result<std::string> SocketOf(const CtlOptions& options) {
  if (!options.socket.empty()) return options.socket.string();
  const std::filesystem::path file = options.config.empty() ? "." : options.config;
  return ControlOf(file).and_then([&](const std::filesystem::path& socket) -> Result<std::string> {
    if (!socket.empty()) return socket.string();
    return Fail(ExitCode::kUnavailable, "the machine has no control socket");
  });
}

// With --json what the machine refuses is printed too: it is the answer.
Result<void> Print(const CtlOptions& options, Command command, const std::string& answer) {
  const auto text = CtlText(command, answer);
  if (options.json || text) {
    if (auto printed = PrintText(options.json ? answer + "\n" : *text); !printed) return printed;
  }
  return text ? Result<void>() : tl::unexpected(text.error());
}

Result<void> Ask(const CtlOptions& options, control::Client& client) {
  const Command command = options.request.command;
  std::vector<control::Request> requests{options.request};
  // In one piece, so that the machine knows of it before it can end.
  if (options.wait) requests.emplace_back().command = Command::kWait;
  const auto receive = [&](Command of) {
    return client.Receive(of).and_then(
        [&](const std::string& answer) { return Print(options, of, answer); });
  };
  auto done = client.Send(requests).and_then([&] { return receive(command); });
  if (done && options.wait) done = receive(Command::kWait);
  if (done && (options.wait || command == Command::kWait)) client.AwaitEnd();
  return done;
}

Result<void> AttachTo(const CtlOptions& options, control::Client& client) {
  return client.Send(std::vector<control::Request>(1))
      .and_then([&] { return client.Receive(Command::kStatus); })
      .and_then([&](const std::string& status) { return FindConsole(status, options.console); })
      .and_then(Attach);
}

}  // namespace

RunOutcome CtlCommand(const CommandLine& line) {
  const CtlOptions& options = line.ctl;
  return OutcomeOf(
      SocketOf(options)
          .and_then([](const std::string& socket) { return control::Client::Connect(socket); })
          .and_then([&](control::Client client) {
            return options.action == CtlOptions::Action::kAttach ? AttachTo(options, client)
                                                                 : Ask(options, client);
          }));
}

}  // namespace vmm
