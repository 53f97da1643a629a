#include "vmm/cli/output.h"

#include <cerrno>
#include <cstdio>

namespace vmm {

Result<void> PrintText(std::string_view text) {
  errno = 0;
  const bool wrote = std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
  if (std::fflush(stdout) == 0 && wrote) return {};
  return FailErrno(ExitCode::kIoError, "can't write to standard output", errno);
}

}  // namespace vmm
