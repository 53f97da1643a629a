// Result<T>: a value, or an Error that already carries the process's exit code and the text for the
// user. Context is added on the way up ("vm.toml:3:1: ..."), the whole is reported once.
#pragma once

#include <string>
#include <tl/expected.hpp>
#include <utility>

#include "vmm/core/base/exit_code.h"

namespace vmm {

struct Error {
  ExitCode code = ExitCode::kInternal;
  std::string message;  // what failed, where, and the remedy; no trailing newline

  Error WithContext(std::string_view context) && {
    message = std::string(context) + ": " + message;
    return std::move(*this);
  }
};

template <class T>
using Result = tl::expected<T, Error>;

inline tl::unexpected<Error> Fail(ExitCode code, std::string message) {
  return tl::unexpected<Error>(Error{code, std::move(message)});
}

// Fail() for a system call: appends strerror(errno_value); EACCES and EPERM become kNoPermission,
// ENOENT kFileMissing, anything else `code`.
tl::unexpected<Error> FailErrno(ExitCode code, std::string message, int errno_value);

}  // namespace vmm
