#include "vmm/core/base/result.h"

#include <cerrno>
#include <cstring>

namespace vmm {

tl::unexpected<Error> FailErrno(ExitCode code, std::string message, int errno_value) {
  if (errno_value == EACCES || errno_value == EPERM) code = ExitCode::kNoPermission;
  if (errno_value == ENOENT) code = ExitCode::kFileMissing;
  return Fail(code, std::move(message) + ": " + std::strerror(errno_value));
}

}  // namespace vmm
