// How a run ended: what Machine::Run() returns, and what `--result FILE` writes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "vmm/core/base/exit_code.h"

namespace vmm {

struct RunOutcome {
  ExitCode code = ExitCode::kInternal;
  std::string reason;         // one line for the admin: what ended the run
  std::string engine;         // "kvm", "bt" or "interpreter"; empty when none was chosen
  std::string engine_reason;  // why this engine, the line that the probe printed
  uint64_t uptime_ms = 0;     // host time from the first guest instruction to the end
  std::vector<std::string> console_tail;  // the last lines that the guest printed, oldest first
  std::string statistics;  // lines of text (machine/statistics_table.h); empty unless asked for
  std::optional<uint32_t> guest_value;  // what the guest wrote to the debug-exit port, unshifted
  // Of `vmm test`: the status of the command, which the program ends with, and each test as JSON.
  std::optional<int> command_status;
  std::string tests;
};

// What the program ends with.
inline int ExitStatus(const RunOutcome& outcome) {
  return outcome.command_status.value_or(static_cast<int>(outcome.code));
}

}  // namespace vmm
