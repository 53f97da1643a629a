// What the commands of `vmm ctl` share.
#pragma once

#include <string>
#include <string_view>

#include "vmm/cli/ctl_options.h"
#include "vmm/core/base/result.h"

namespace vmm {

// What an answer says, for people; or the error that it is. kIoError: it is no answer.
Result<std::string> CtlText(control::Command command, std::string_view answer);

// Where a console of the machine is, from the answer to status. kUnavailable: nobody can attach to
// it, and why.
struct CtlConsole {
  std::string kind;   // "unix" or "pty"
  std::string where;  // an absolute path
};
Result<CtlConsole> FindConsole(std::string_view status_answer, std::string_view name);

// Connects the standard input and output with a console until the user leaves or it ends.
Result<void> Attach(const CtlConsole& console);

}  // namespace vmm
