// The signals that ask the program to end or to suspend the machine, or tell of a terminal's other
// size, read from a descriptor on the
// event loop instead of interrupting anything.
#pragma once

#include <memory>
#include <vector>

#include "vmm/core/base/result.h"

namespace vmm {

// Signals: SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH. SIGPIPE and SIGXFSZ are
// ignored.
class HostSignals {
 public:
  // Blocks the signals in this thread and in those that it starts later: call before any other
  // thread exists. They stay blocked after destruction, so that one that comes late can't cut off
  // the tidying up.
  static Result<std::unique_ptr<HostSignals>> Create();
  HostSignals(const HostSignals&) = delete;
  HostSignals& operator=(const HostSignals&) = delete;
  ~HostSignals();

  int fd() const { return fd_; }  // readable when a signal waits
  std::vector<int> Take();        // those that wait, without blocking

 private:
  explicit HostSignals(int fd) : fd_(fd) {}
  const int fd_;
};

}  // namespace vmm
