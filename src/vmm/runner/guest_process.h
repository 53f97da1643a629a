// The process that runs the machine of one test: one VM a process, as always.
#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>

#include "vmm/core/base/result.h"
#include "vmm/core/host/unique_fd.h"
#include "vmm/runner/test_case.h"

namespace vmm {

// The child is a copy of this process (fork without exec): it has the Config as it is, and no file
// or socket with a name is needed between the two. It dies with its parent.
class GuestProcess {
 public:
  // No other thread may exist. `in_child` runs first in the child: it closes what is the parent's.
  static Result<std::unique_ptr<GuestProcess>> Start(const TestCase& test,
                                                     const std::function<void()>& in_child);
  GuestProcess(const GuestProcess&) = delete;
  GuestProcess& operator=(const GuestProcess&) = delete;
  ~GuestProcess();  // ends it by force

  pid_t pid() const { return pid_; }
  // Ends the machine: SIGQUIT at once but in order, SIGKILL whatever it does.
  void Signal(int number) const;
  // True once it has ended, and was waited for; `status` as of waitpid(2).
  bool HasEnded(int* status);

  // All are non-blocking.
  UniqueFd channel;   // the guest's second serial line, both ways
  UniqueFd console;   // what the machine writes to its stdout
  UniqueFd messages;  // and to its stderr
  UniqueFd outcome;   // EncodeOutcome()

 private:
  GuestProcess() = default;
  pid_t pid_ = -1;
};

}  // namespace vmm
