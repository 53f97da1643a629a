#include "vmm/cli/cli_main.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <exception>
#include <optional>
#include <span>
#include <string>

#include "vmm/cli/command_line.h"
#include "vmm/cli/commands.h"
#include "vmm/cli/output.h"
#include "vmm/cli/result_file.h"
#include "vmm/core/base/log.h"

namespace vmm {
namespace {

// A process that starts with stdin, stdout or stderr closed would give their numbers to the next
// files it opens: a message could end up in the guest's memory. What fills the place can't be
// written, so that output to nowhere is an error as before.
void FillStandardFds() {
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd) {
    if (fcntl(fd, F_GETFD) < 0) {
      if (open("/dev/null", O_RDONLY) < 0) return;  // takes the lowest free number: `fd`
    }
  }
}

RunOutcome Dispatch(const CommandLine& line) {
  using Command = CommandLine::Command;
  switch (line.command) {
    case Command::kRun:
      return RunCommand(line);
    case Command::kCheck:
      return CheckCommand(line);
    case Command::kInspect:
      return InspectCommand(line);
    case Command::kProbe:
      return ProbeCommand(line);
    case Command::kConfig:
      return ConfigCommand(line);
    case Command::kDisk:
      return DiskCommand(line);
    case Command::kCtl:
      return CtlCommand(line);
    case Command::kNew:
      return NewCommand(line);
    case Command::kTest:
      return TestCommand(line);
    case Command::kShowText:
      return OutcomeOf(PrintText(line.text));
  }
  return {};
}

bool IsNumber(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

// "vm.toml:3:8: ..." is for editors to read and stays as it is.
bool StartsWithPlace(std::string_view line) {
  const std::string_view place = line.substr(0, line.find(": "));
  const size_t column = place.rfind(':');
  if (column == std::string_view::npos || column == 0) return false;
  const size_t row = place.rfind(':', column - 1);
  return row != std::string_view::npos && IsNumber(place.substr(column + 1)) &&
         IsNumber(place.substr(row + 1, column - row - 1));
}

void PrintReason(std::string_view reason) {
  while (!reason.empty()) {
    const std::string_view line = reason.substr(0, reason.find('\n'));
    reason.remove_prefix(std::min(line.size() + 1, reason.size()));
    if (StartsWithPlace(line)) {
      std::fprintf(stderr, "%.*s\n", static_cast<int>(line.size()), line.data());
    } else {
      Log(LogLevel::kError, line);
    }
  }
}

// `all`: as main() got it. argv[0] may be missing: execve(2) allows it.
RunOutcome Run(std::span<const char* const> all, std::optional<ResultFile>& result_file) {
  const auto arguments = all.empty() ? all : all.subspan(1);
  if (const auto path = FindResultPath(arguments); !path.empty()) {
    auto prepared = ResultFile::Prepare(path);
    if (!prepared) return OutcomeOf(std::move(prepared.error()));
    result_file = std::move(*prepared);
  }
  Result<CommandLine> line = ParseCommandLine(arguments);
  if (!line) return OutcomeOf(line.error());
  if (!all.empty()) line->program = all.front();
  SetLogLevel(line->log_level);
  return Dispatch(*line);
}

}  // namespace

int CliMain(int argc, char** argv) {
  FillStandardFds();
  std::signal(SIGPIPE, SIG_IGN);  // a reader that goes away is an error of that write alone
  RunOutcome outcome;
  std::optional<ResultFile> result_file;
  try {
    outcome = Run({argv, static_cast<size_t>(argc)}, result_file);
  } catch (const std::bad_alloc&) {
    outcome.code = ExitCode::kHostMemory;
    outcome.reason = "the host has no memory left for vmm itself";
  } catch (const std::exception& error) {
    outcome.code = ExitCode::kInternal;
    outcome.reason = std::string("internal error: ") + error.what();
  }
  if (outcome.code == ExitCode::kSuspended) {
    Log(LogLevel::kInfo, outcome.reason);
  } else if (outcome.code != ExitCode::kSuccess) {
    PrintReason(outcome.reason);
  }
  if (result_file) {
    if (const Result<void> wrote = result_file->Write(outcome); !wrote) {
      Log(LogLevel::kError, wrote.error().message);
      if (outcome.code == ExitCode::kSuccess) {
        outcome.code = wrote.error().code;
        outcome.command_status.reset();
      }
    }
  }
  // What went well is told to the log alone.
  const bool is_well = outcome.code == ExitCode::kSuccess && !outcome.reason.empty();
  LogToFile(
      fmt::format("ended with {}{}", ExitStatus(outcome), is_well ? ": " + outcome.reason : ""));
  return ExitStatus(outcome);
}

}  // namespace vmm
