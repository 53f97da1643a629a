// What the commands of `vmm` do. Each gives the outcome of the program; a command that runs no
// machine leaves the engine empty. Errors are in the outcome's reason and not printed yet.
#pragma once

#include "vmm/cli/command_line.h"
#include "vmm/config/config.h"
#include "vmm/machine/run_outcome.h"

namespace vmm {

RunOutcome RunCommand(const CommandLine& line);
RunOutcome CheckCommand(const CommandLine& line);
RunOutcome InspectCommand(const CommandLine& line);
RunOutcome ProbeCommand(const CommandLine& line);
RunOutcome ConfigCommand(const CommandLine& line);
RunOutcome DiskCommand(const CommandLine& line);
RunOutcome CtlCommand(const CommandLine& line);
RunOutcome NewCommand(const CommandLine& line);
RunOutcome TestCommand(const CommandLine& line);

// The Config that the command line describes, by a file or without one.
Result<Config> ConfigOf(const CommandLine& line);

RunOutcome OutcomeOf(Error error);
// Success, or the error.
RunOutcome OutcomeOf(const Result<void>& result);

}  // namespace vmm
