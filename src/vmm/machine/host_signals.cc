#include "vmm/machine/host_signals.h"

#include <pthread.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>

namespace vmm {

Result<std::unique_ptr<HostSignals>> HostSignals::Create() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH})
    sigaddset(&set, signal);
  if (const int error = pthread_sigmask(SIG_BLOCK, &set, nullptr); error != 0) {
    return FailErrno(ExitCode::kOsError, "can't block signals", error);
  }
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGXFSZ, SIG_IGN);  // a file that may not grow is an error of that write alone
  const int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
  if (fd < 0) return FailErrno(ExitCode::kOsError, "can't make a signal descriptor", errno);
  return std::unique_ptr<HostSignals>(new HostSignals(fd));
}

HostSignals::~HostSignals() {
  close(fd_);
}

std::vector<int> HostSignals::Take() {
  std::vector<int> signals;
  signalfd_siginfo info;
  while (read(fd_, &info, sizeof info) == sizeof info) {
    signals.push_back(static_cast<int>(info.ssi_signo));
  }
  return signals;
}

}  // namespace vmm
