// A listening Unix socket in the file system.
#pragma once

#include <string>
#include <string_view>

#include "vmm/core/base/result.h"
#include "vmm/core/host/char_exit_guard.h"
#include "vmm/core/host/unique_fd.h"

namespace vmm {

// The file goes with it, on every way out of the process (CharExitGuard).
struct UnixListener {
  UniqueFd fd;  // non-blocking
  CharExitGuard file;
};

// Listens on `path` (mode 0600). A socket there that nobody serves any more is replaced.
// kConfigInvalid when the path is too long for a socket; `code` when another program serves it,
// when it is another kind of file, or can't be made.
Result<UnixListener> ListenUnix(const std::string& path, ExitCode code);

}  // namespace vmm
