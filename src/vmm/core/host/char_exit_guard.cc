#include "vmm/core/host/char_exit_guard.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "vmm/core/base/check.h"

namespace vmm {
namespace {

// All that a signal handler needs, in static memory and found without a lock.
struct Slot {
  enum State : int { kFree, kFilling, kArmed, kUndoing };
  std::atomic<int> state{kFree};
  enum class Kind : uint8_t { kTerminal, kSocket } kind{};
  pid_t process = 0;
  int fd = -1;  // of the terminal, our own
  termios mode{}, raw{};
  std::array<char, sizeof(sockaddr_un::sun_path) + 1> path{};
  dev_t device = 0;
  ino_t inode = 0;
};

std::array<Slot, CharExitGuard::kMost> slots;

// Async-signal-safe, as is all that it calls.
void UndoSlot(Slot& slot) {
  int armed = Slot::kArmed;
  if (!slot.state.compare_exchange_strong(armed, Slot::kUndoing)) return;
  if (slot.process == getpid()) {
    if (slot.kind == Slot::Kind::kTerminal) {
      // TCSANOW: waiting for the output to drain could take for ever.
      if (InForeground(slot.fd)) tcsetattr(slot.fd, TCSANOW, &slot.mode);
      close(slot.fd);
    } else {
      struct stat now{};
      if (lstat(slot.path.data(), &now) == 0 && now.st_dev == slot.device &&
          now.st_ino == slot.inode) {
        unlink(slot.path.data());
      }
    }
  }
  slot.state = Slot::kFree;
}

void UndoAll() {
  const int saved_errno = errno;
  for (Slot& slot : slots) UndoSlot(slot);
  errno = saved_errno;
}

// The handler is gone already (SA_RESETHAND): the signal comes again with its default action when
// this returns.
void OnFatalSignal(int number) {
  UndoAll();
  raise(number);
}

// Async-signal-safe. An armed slot's modes don't change.
void SetTerminals(termios Slot::* mode) {
  for (Slot& slot : slots) {
    if (slot.state == Slot::kArmed && slot.kind == Slot::Kind::kTerminal &&
        slot.process == getpid() && InForeground(slot.fd)) {
      tcsetattr(slot.fd, TCSANOW, &(slot.*mode));
    }
  }
}

bool HasDefault(int number) {
  struct sigaction current{};
  return sigaction(number, nullptr, &current) == 0 && (current.sa_flags & SA_SIGINFO) == 0 &&
         current.sa_handler == SIG_DFL;
}

void Install(int number, void (*handler)(int), int flags) {
  struct sigaction action{};
  action.sa_handler = handler;
  action.sa_flags = flags | SA_ONSTACK;
  sigfillset(&action.sa_mask);
  sigaction(number, &action, nullptr);
}

void OnContinue(int) {
  const int saved_errno = errno;
  SetTerminals(&Slot::raw);
  errno = saved_errno;
}

// The process stops in the middle of it, by the default action.
void OnStop(int number) {
  const int saved_errno = errno;
  SetTerminals(&Slot::mode);
  signal(number, SIG_DFL);
  raise(number);
  sigset_t only, before;
  sigemptyset(&only);
  sigaddset(&only, number);
  pthread_sigmask(SIG_UNBLOCK, &only, &before);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  Install(number, OnStop, SA_RESTART);
  SetTerminals(&Slot::raw);
  errno = saved_errno;
}

void InstallHandlers() {
  std::atexit(UndoAll);
  std::at_quick_exit(UndoAll);
  for (const int number :
       {SIGABRT, SIGALRM, SIGBUS, SIGFPE, SIGHUP, SIGILL, SIGINT, SIGPROF, SIGPWR, SIGQUIT, SIGSEGV,
        SIGSYS, SIGTERM, SIGTRAP, SIGVTALRM, SIGUSR1, SIGUSR2, SIGXCPU, SIGXFSZ}) {
    if (HasDefault(number)) Install(number, OnFatalSignal, static_cast<int>(SA_RESETHAND));
  }
  if (HasDefault(SIGTSTP)) Install(SIGTSTP, OnStop, SA_RESTART);
  if (HasDefault(SIGCONT)) Install(SIGCONT, OnContinue, SA_RESTART);
}

Result<int> TakeSlot() {
  static std::once_flag once;
  std::call_once(once, InstallHandlers);
  for (int i = 0; i < CharExitGuard::kMost; ++i) {
    int free = Slot::kFree;
    if (slots[i].state.compare_exchange_strong(free, Slot::kFilling)) {
      slots[i].process = getpid();
      return i;
    }
  }
  return Fail(ExitCode::kOsError, "too many consoles in one process");
}

}  // namespace

bool InForeground(int terminal) {
  const pid_t group = tcgetpgrp(terminal);
  return group < 0 || group == getpgrp();  // not our controlling terminal: nobody minds
}

Result<CharExitGuard> CharExitGuard::RawTerminal(int fd) {
  auto index = TakeSlot();
  if (!index) return tl::unexpected(std::move(index.error()));
  Slot& slot = slots[static_cast<size_t>(*index)];
  slot.kind = Slot::Kind::kTerminal;
  slot.fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
  if (slot.fd < 0 || tcgetattr(slot.fd, &slot.mode) != 0) {
    const int error = errno;
    if (slot.fd >= 0) close(slot.fd);
    slot.state = Slot::kFree;
    return FailErrno(ExitCode::kOsError, "can't read the terminal's mode", error);
  }
  slot.raw = slot.mode;
  cfmakeraw(&slot.raw);
  slot.raw.c_cc[VMIN] = 1;
  slot.raw.c_cc[VTIME] = 0;
  slot.state = Slot::kArmed;  // before the change: no moment in which it would stay raw
  if (tcsetattr(slot.fd, TCSANOW, &slot.raw) != 0) {
    const int error = errno;
    UndoSlot(slot);
    return FailErrno(ExitCode::kOsError, "can't set the terminal's mode", error);
  }
  return CharExitGuard(*index);
}

Result<CharExitGuard> CharExitGuard::RemoveSocket(const std::string& path) {
  struct stat status{};
  if (lstat(path.c_str(), &status) != 0) return FailErrno(ExitCode::kOsError, path, errno);
  auto index = TakeSlot();
  if (!index) return tl::unexpected(std::move(index.error()));
  Slot& slot = slots[static_cast<size_t>(*index)];
  CHECK(path.size() < slot.path.size());
  slot.kind = Slot::Kind::kSocket;
  slot.device = status.st_dev;
  slot.inode = status.st_ino;
  std::memcpy(slot.path.data(), path.c_str(), path.size() + 1);
  slot.state = Slot::kArmed;
  return CharExitGuard(*index);
}

void CharExitGuard::Undo() {
  if (slot_ >= 0) UndoSlot(slots[static_cast<size_t>(std::exchange(slot_, -1))]);
}

void CharExitGuard::Renew() {
  if (slot_ < 0) return;
  const Slot& slot = slots[static_cast<size_t>(slot_)];
  if (slot.kind == Slot::Kind::kTerminal) tcsetattr(slot.fd, TCSANOW, &slot.raw);
}

}  // namespace vmm
