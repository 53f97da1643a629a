#include "vmm/runner/guest_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <exception>
#include <new>
#include <span>
#include <string>

#include "vmm/machine/machine.h"
#include "vmm/runner/outcome_codec.h"
#include "vmm/runner/prepare_guest.h"

namespace vmm {
namespace {

// What the child keeps.
struct TheirEnds {
  UniqueFd channel, console, messages, outcome;
};

tl::unexpected<Error> NoPipe(int error) {
  return FailErrno(ExitCode::kOsError, "can't make the pipes of a guest", error);
}

// Ours is non-blocking, theirs is not.
Result<void> MakePipe(UniqueFd& ours, UniqueFd& theirs) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return NoPipe(errno);
  ours = UniqueFd(ends[0]);
  theirs = UniqueFd(ends[1]);
  if (fcntl(ends[0], F_SETFL, O_NONBLOCK) != 0) return NoPipe(errno);
  return {};
}

Result<void> MakeSocketPair(UniqueFd& ours, UniqueFd& theirs) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) {
    return NoPipe(errno);
  }
  ours = UniqueFd(ends[0]);
  theirs = UniqueFd(ends[1]);
  return {};
}

RunOutcome Failed(ExitCode code, std::string reason) {
  RunOutcome outcome;
  outcome.code = code;
  outcome.reason = std::move(reason);
  return outcome;
}

RunOutcome RunMachine(const TestCase& test, int channel) {
  auto guest = PrepareGuest(test);
  if (!guest) return Failed(guest.error().code, guest.error().message);
  if (!test.command.empty()) {
    guest->config.serial[1] = {.kind = ConsoleSpec::Kind::kSocket, .path = {}, .fd = channel};
  }
  auto machine = Machine::Create(guest->config);
  if (!machine) return Failed(machine.error().code, machine.error().message);
  return (*machine)->Run();
}

RunOutcome RunGuarded(const TestCase& test, int channel) {
  try {
    return RunMachine(test, channel);
  } catch (const std::bad_alloc&) {
    return Failed(ExitCode::kHostMemory, "the host has no memory left for vmm itself");
  } catch (const std::exception& error) {
    return Failed(ExitCode::kInternal, std::string("internal error: ") + error.what());
  }
}

void WriteOutcome(int fd, const RunOutcome& outcome) {
  const std::vector<uint8_t> bytes = EncodeOutcome(outcome);
  std::span<const uint8_t> left(bytes);
  while (!left.empty()) {
    const ssize_t wrote = write(fd, left.data(), left.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return;
    left = left.subspan(static_cast<size_t>(wrote));
  }
}

// Signals that end the program stay blocked as they are: the machine takes them as it starts.
[[noreturn]] void BeGuest(const TestCase& test, const TheirEnds& ends, pid_t parent) {
  setpgid(0, 0);  // the terminal's Ctrl-C is for the parent, who decides
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent) _exit(1);
  sigset_t child;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  sigprocmask(SIG_UNBLOCK, &child, nullptr);
  const UniqueFd null(open("/dev/null", O_RDONLY | O_CLOEXEC));
  dup2(null.get(), STDIN_FILENO);
  dup2(ends.console.get(), STDOUT_FILENO);
  dup2(ends.messages.get(), STDERR_FILENO);
  WriteOutcome(ends.outcome.get(), RunGuarded(test, ends.channel.get()));
  _exit(0);
}

}  // namespace

Result<std::unique_ptr<GuestProcess>> GuestProcess::Start(const TestCase& test,
                                                          const std::function<void()>& in_child) {
  std::unique_ptr<GuestProcess> guest(new GuestProcess());
  TheirEnds ends;
  auto made = MakeSocketPair(guest->channel, ends.channel)
                  .and_then([&] { return MakePipe(guest->console, ends.console); })
                  .and_then([&] { return MakePipe(guest->messages, ends.messages); })
                  .and_then([&] { return MakePipe(guest->outcome, ends.outcome); });
  if (!made) return tl::unexpected(std::move(made.error()));
  const pid_t parent = getpid();
  guest->pid_ = fork();
  if (guest->pid_ < 0) return FailErrno(ExitCode::kOsError, "can't start another process", errno);
  if (guest->pid_ == 0) {
    for (UniqueFd* ours : {&guest->channel, &guest->console, &guest->messages, &guest->outcome}) {
      ours->Reset();
    }
    in_child();
    BeGuest(test, ends, parent);
  }
  return guest;
}

GuestProcess::~GuestProcess() {
  if (pid_ <= 0) return;
  kill(pid_, SIGKILL);
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

void GuestProcess::Signal(int number) const {
  if (pid_ > 0) kill(pid_, number);
}

bool GuestProcess::HasEnded(int* status) {
  if (pid_ <= 0) return true;
  pid_t ended;
  do {
    ended = waitpid(pid_, status, WNOHANG);
  } while (ended < 0 && errno == EINTR);
  if (ended == 0) return false;
  pid_ = -1;
  return true;
}

}  // namespace vmm
