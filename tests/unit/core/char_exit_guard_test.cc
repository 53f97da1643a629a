#include "vmm/core/host/char_exit_guard.h"

#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>

#include "char_fakes.h"
#include "vmm/core/host/char_stdio.h"

namespace vmm::test {
namespace {

struct Terminal {
  Terminal() {
    int fds[2];
    REQUIRE(openpty(&fds[0], &fds[1], nullptr, nullptr, nullptr) == 0);
    master = UniqueFd(fds[0]);
    slave = UniqueFd(fds[1]);
    for (const int fd : {master.get(), slave.get()}) fcntl(fd, F_SETFD, FD_CLOEXEC);
  }
  bool Raw() const {
    termios mode{};
    REQUIRE(tcgetattr(slave.get(), &mode) == 0);
    return (mode.c_lflag & (ICANON | ECHO | ISIG)) == 0 && (mode.c_oflag & OPOST) == 0;
  }
  bool Cooked() const {
    termios mode{};
    REQUIRE(tcgetattr(slave.get(), &mode) == 0);
    return (mode.c_lflag & (ICANON | ECHO | ISIG)) == (ICANON | ECHO | ISIG) &&
           (mode.c_oflag & OPOST) != 0;
  }
  UniqueFd master, slave;
};

// Runs `work` in a child that has a raw terminal and a socket file; returns its wait status.
int InChild(const Terminal& terminal, const std::string& path, const std::function<void()>& work) {
  fflush(nullptr);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    const rlimit none{0, 0};
    setrlimit(RLIMIT_CORE, &none);
    // The test program's own handlers would be kept, and what its parent ignores, as nohup does
    // SIGHUP: a program without either is meant.
    for (int number = 1; number < SIGSYS; ++number) signal(number, SIG_DFL);
    auto raw = CharExitGuard::RawTerminal(terminal.slave.get());
    const UniqueFd socket = UniqueFd(::socket(AF_UNIX, SOCK_STREAM, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    if (bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) _exit(99);
    auto file = CharExitGuard::RemoveSocket(path);
    if (!raw || !file || !terminal.Raw()) _exit(98);
    work();
    _exit(97);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  return status;
}

TEST_CASE("Every signal that ends the process restores the terminal and still ends it",
          "[console]") {
  const TempDirectory directory;
  const int number = GENERATE(SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGABRT, SIGSEGV, SIGBUS, SIGFPE,
                              SIGILL, SIGALRM, SIGUSR1, SIGXCPU);
  const Terminal terminal;
  const int status = InChild(terminal, directory / "s", [&] { kill(getpid(), number); });
  REQUIRE(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == number);
  CHECK(terminal.Cooked());
  CHECK_FALSE(std::filesystem::exists(directory / "s"));
}

TEST_CASE("A real fault and abort restore the terminal and are reported as what they are",
          "[console]") {
  const TempDirectory directory;
  const Terminal terminal;
  int status = InChild(terminal, directory / "s", [] { __builtin_trap(); });
  REQUIRE(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == SIGILL);
  CHECK(terminal.Cooked());
  status = InChild(terminal, directory / "s", [] { std::abort(); });
  REQUIRE(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == SIGABRT);
  CHECK(terminal.Cooked());
  CHECK_FALSE(std::filesystem::exists(directory / "s"));
}

TEST_CASE("exit and quick_exit from anywhere restore the terminal", "[console]") {
  const TempDirectory directory;
  const Terminal terminal;
  const bool quick = GENERATE(false, true);
  const int status =
      InChild(terminal, directory / "s", [&] { quick ? std::quick_exit(3) : std::exit(3); });
  REQUIRE(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 3);
  CHECK(terminal.Cooked());
  CHECK_FALSE(std::filesystem::exists(directory / "s"));
}

TEST_CASE("A child of the process that ends leaves the terminal and the socket alone",
          "[console]") {
  const TempDirectory directory;
  const Terminal terminal;
  const int status = InChild(terminal, directory / "s", [&] {
    const pid_t grandchild = fork();
    if (grandchild == 0) std::quick_exit(0);
    int ended = 0;
    waitpid(grandchild, &ended, 0);
    const bool kept = terminal.Raw() && std::filesystem::exists(directory / "s");
    std::exit(kept ? 0 : 1);
  });
  REQUIRE(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("A process that is stopped gives the terminal back until it goes on", "[console]") {
  const TempDirectory directory;
  const Terminal terminal;
  fflush(nullptr);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    setpgid(0, getppid());  // an orphaned group would not stop
    auto raw = CharExitGuard::RawTerminal(terminal.slave.get());
    raise(SIGTSTP);
    const bool again = terminal.Raw();
    raw->Undo();
    _exit(again ? 0 : 1);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, WUNTRACED) == child);
  if (!WIFSTOPPED(status)) {
    WARN("the process group is orphaned: SIGTSTP stops nobody here");
    return;
  }
  CHECK(terminal.Cooked());
  kill(child, SIGCONT);
  REQUIRE(waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("A terminal on standard input is raw while the console is open, then as it was",
          "[console][threads]") {
  const Terminal terminal;
  termios before{}, after{};
  REQUIRE(tcgetattr(terminal.slave.get(), &before) == 0);
  ConsoleLoop loop;
  auto console = *CharStdio::Open(*loop, "serial0", terminal.slave.get(), terminal.slave.get());
  CHECK(terminal.Raw());
  Guest guest;
  console->SetReceiver(&guest);
  REQUIRE(write(terminal.master.get(), "\x03\x1a\x04\r", 4) == 4);
  CHECK(guest.Wait(4) == "\x03\x1a\x04\r");  // Ctrl-C, Ctrl-Z, Ctrl-D and Enter as they are
  Print(*console, "one\ntwo\r\n");
  CHECK(ReadFrom(terminal.master.get(), 9) == "one\ntwo\r\n");
  CHECK((fcntl(terminal.slave.get(), F_GETFL) & O_NONBLOCK) == 0);
  loop.Stop();
  console.reset();
  REQUIRE(tcgetattr(terminal.slave.get(), &after) == 0);
  CHECK(before.c_lflag == after.c_lflag);
  CHECK(before.c_iflag == after.c_iflag);
  CHECK(before.c_oflag == after.c_oflag);
}

TEST_CASE("A terminal that takes nothing does not stop the guest", "[console][threads]") {
  const Terminal terminal;
  ConsoleLoop loop;
  auto console = *CharStdio::Open(*loop, "serial0", terminal.slave.get(), terminal.slave.get());
  const std::string text = Lines(1'000'000);
  const auto start = std::chrono::steady_clock::now();
  for (size_t at = 0; at < text.size(); at += 20) Print(*console, text.substr(at, 20));
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(8));
  loop.Stop();
  console.reset();
  CHECK(terminal.Cooked());
}

TEST_CASE("Finish gives the terminal back, so that the last words of the program look right",
          "[console][threads]") {
  const Terminal terminal;
  ConsoleLoop loop;
  auto console = *CharStdio::Open(*loop, "serial0", terminal.slave.get(), terminal.slave.get());
  Print(*console, "bye");
  loop.Stop();
  console->Finish();
  CHECK(terminal.Cooked());
  CHECK(ReadFrom(terminal.master.get(), 3) == "bye");
}

TEST_CASE("A socket file that another program has put there meanwhile stays", "[console]") {
  const TempDirectory directory;
  const auto make = [&] {
    UniqueFd fd(socket(AF_UNIX, SOCK_STREAM, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, (directory / "s").c_str(), sizeof address.sun_path - 1);
    REQUIRE(bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    return fd;
  };
  const UniqueFd first = make();
  auto guard = *CharExitGuard::RemoveSocket(directory / "s");
  std::filesystem::rename(directory / "s", directory / "kept");  // so that its number stays taken
  const UniqueFd second = make();
  guard.Undo();
  CHECK(std::filesystem::exists(directory / "s"));
}

}  // namespace
}  // namespace vmm::test
