#include "guest-tools/init/command.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "guest-tools/init/text.h"

namespace guest_init {
namespace {

namespace wire = vmm::test_channel;

void OnChild(int) {}  // wakes ppoll()

// As a shell puts it: 127 when there is no such program, 126 when it can't be run.
[[noreturn]] void Execute(const Plan& plan) {
  execvp(plan.arguments[0], plan.arguments);
  const int error = errno;
  const Text text("vmm: can't run %s: %s\n", plan.arguments[0], strerror(error));
  if (write(STDERR_FILENO, text.c_str(), strlen(text.c_str())) < 0) _exit(126);
  _exit(error == ENOENT ? 127 : 126);
}

class Output {
 public:
  explicit Output(wire::Type type) : type_(type) {}
  bool Open() { return pipe2(ends_, O_CLOEXEC) == 0; }
  int theirs() const { return ends_[1]; }
  void CloseTheirs() {
    close(ends_[1]);
    fcntl(ends_[0], F_SETFL, O_NONBLOCK);
  }
  bool is_open() const { return ends_[0] >= 0; }
  int fd() const { return ends_[0]; }
  // Passes one frame on. False: nothing is there now.
  bool Pass(Channel& channel) {
    if (!is_open()) return false;
    uint8_t bytes[wire::kMaxPayload];
    const ssize_t got = read(ends_[0], bytes, sizeof bytes);
    if (got > 0) channel.Send(type_, bytes, static_cast<size_t>(got));
    if (got == 0) {
      close(ends_[0]);
      ends_[0] = -1;
    }
    return got > 0;
  }
  // All that is there at this moment: who goes on writing is not waited for.
  void PassRest(Channel& channel) {
    int left = 0;
    if (!is_open() || ioctl(ends_[0], FIONREAD, &left) != 0) return;
    for (; left > 0 && Pass(channel); left -= static_cast<int>(wire::kMaxPayload)) {
    }
  }

 private:
  const wire::Type type_;
  int ends_[2] = {-1, -1};
};

// Collects every process that has ended: init is the parent of those whose own has gone. True:
// `pid` is among them.
bool Reap(pid_t pid, int* status) {
  bool found = false;
  for (;;) {
    int of_this = 0;
    const pid_t ended = waitpid(-1, &of_this, WNOHANG);
    if (ended <= 0) return found;
    if (ended != pid) continue;
    *status = of_this;
    found = true;
  }
}

void TellEnd(Channel& channel, int status) {
  using How = wire::How;
  const bool killed = WIFSIGNALED(status);
  const uint8_t end[2] = {static_cast<uint8_t>(killed ? How::kKilled : How::kExited),
                          static_cast<uint8_t>(killed ? WTERMSIG(status) : WEXITSTATUS(status))};
  channel.Send(wire::Type::kEnded, end, sizeof end);
}

void BecomeCommand(const Plan& plan, const Output& out, const Output& err, const sigset_t& mask) {
  setsid();
  signal(SIGCHLD, SIG_DFL);
  sigprocmask(SIG_SETMASK, &mask, nullptr);
  const int null = open("/dev/null", O_RDONLY);
  if (null > 0) dup2(null, STDIN_FILENO);
  dup2(out.theirs(), STDOUT_FILENO);
  dup2(err.theirs(), STDERR_FILENO);
  if (null > STDERR_FILENO) close(null);
  Execute(plan);
}

}  // namespace

void RunQuietly(const char* program, const char* const* arguments) {
  const pid_t pid = fork();
  if (pid == 0) {
    execv(program, const_cast<char* const*>(arguments));
    _exit(127);
  }
  while (pid > 0 && waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
}

void RunCommand(const Plan& plan, Channel& channel) {
  Output out(wire::Type::kStdout), err(wire::Type::kStderr);
  if (!out.Open() || !err.Open()) {
    channel.SendText(wire::Type::kProblem, "can't make pipes");
    return;
  }
  sigset_t child, before;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  sigprocmask(SIG_BLOCK, &child, &before);
  struct sigaction action{};
  action.sa_handler = OnChild;
  sigaction(SIGCHLD, &action, nullptr);

  channel.Send(wire::Type::kStarted, "", 0);
  const pid_t pid = fork();
  if (pid < 0) {
    channel.SendText(wire::Type::kProblem, Text("can't fork: %s", strerror(errno)).c_str());
    return;
  }
  if (pid == 0) BecomeCommand(plan, out, err, before);
  out.CloseTheirs();
  err.CloseTheirs();
  int status = 0;
  while (!Reap(pid, &status)) {
    // Output is read only when there is room for it on the line: the command waits as well.
    pollfd states[3] = {{channel.fd(), POLLIN, 0}, {-1, POLLIN, 0}, {-1, POLLIN, 0}};
    if (channel.has_room()) {
      states[1].fd = out.fd();
      states[2].fd = err.fd();
    }
    if (ppoll(states, 3, nullptr, &before) < 0) continue;
    if (states[0].revents != 0) channel.TakeAcks(false);
    if (states[1].revents != 0 && channel.has_room()) out.Pass(channel);
    if (states[2].revents != 0 && channel.has_room()) err.Pass(channel);
  }
  out.PassRest(channel);
  err.PassRest(channel);
  sync();
  TellEnd(channel, status);
}

}  // namespace guest_init
