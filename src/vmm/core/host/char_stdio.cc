#include "vmm/core/host/char_stdio.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

#include "vmm/core/base/log.h"

namespace vmm {
namespace {

std::atomic<bool> in_use{false};

// How often a terminal that another job has is looked at.
constexpr long kLookNanoseconds = 300'000'000;

// A reader of our output that goes away is an error to report, not the end of the machine.
void IgnoreSigpipe() {
  struct sigaction current{};
  if (sigaction(SIGPIPE, nullptr, &current) == 0 && (current.sa_flags & SA_SIGINFO) == 0 &&
      current.sa_handler == SIG_DFL) {
    signal(SIGPIPE, SIG_IGN);
  }
}

}  // namespace

Result<std::unique_ptr<CharStdio>> CharStdio::Open(EventLoop& loop, std::string name, int in,
                                                   int out) {
  if (in_use.exchange(true)) {
    return Fail(ExitCode::kConfigInvalid,
                "standard input and output are another console's already; use \"pty\", "
                "\"unix:PATH\" or \"file:PATH\"");
  }
  std::unique_ptr<CharStdio> stdio(new CharStdio(loop, std::move(name)));
  CharStdio* const self = stdio.get();
  IgnoreSigpipe();
  CharSink sink = CharSink::Shared(out);
  if (sink.fd() < 0 || (fcntl(out, F_GETFL) & O_ACCMODE) == O_RDONLY) {
    return Fail(ExitCode::kConsoleLost,
                "standard output is closed or can only be read; redirect it to a file or to "
                "/dev/null, or use \"null\"");
  }
  self->out_ = out;
  self->to_terminal_ = isatty(out) == 1;
  auto output = CharOutput::Create(loop, CharOutput::LogHooks(self->name_, "standard output"));
  if (!output) return tl::unexpected(std::move(output.error()));
  self->output_ = std::move(*output);
  auto input = CharInput::Create(loop, [self](CharInput::Event event) {
    if (event == CharInput::Event::kBackground) self->WaitForForeground();
  });
  if (!input) return tl::unexpected(std::move(input.error()));
  self->input_ = std::move(*input);
  self->output_->Attach(std::move(sink));
  if (auto taken = self->TakeInput(in); !taken) return tl::unexpected(std::move(taken.error()));
  return stdio;
}

Result<void> CharStdio::TakeInput(int in) {
  struct stat status{};
  if (fstat(in, &status) != 0) return {};  // closed: the guest just gets no keys
  const bool terminal = isatty(in) == 1;
  UniqueFd own;
  if (terminal || S_ISFIFO(status.st_mode)) own = OpenAgain(in, O_RDONLY | O_NONBLOCK);
  if (!own) own = UniqueFd(fcntl(in, F_DUPFD_CLOEXEC, 3));
  if (terminal) {
    terminal_ = own.get();
    if (InForeground(terminal_)) {
      if (auto raw = MakeRaw(); !raw) return raw;
    } else {
      Log(LogLevel::kInfo,
          fmt::format("{}: in the background of its terminal; keys are read once it is in the "
                      "foreground",
                      name_));
    }
  }
  input_->Attach(std::move(own), terminal);
  if (terminal && !raw_mode_) WaitForForeground();
  return {};
}

Result<void> CharStdio::MakeRaw() {
  if (raw_mode_) {
    raw_mode_.Renew();
    return {};
  }
  auto raw = CharExitGuard::RawTerminal(terminal_);
  if (!raw) return tl::unexpected(std::move(raw.error()));
  raw_mode_ = std::move(*raw);
  if (isatty(STDERR_FILENO) == 1) SetLogLineEnd("\r\n");
  return {};
}

CharWindow CharStdio::window() const {
  winsize size{};
  if (!to_terminal_ || ioctl(out_, TIOCGWINSZ, &size) != 0) return {};
  return {.columns = size.ws_col, .rows = size.ws_row};
}

// No signal says that a job that was never stopped is in the foreground now.
void CharStdio::WaitForForeground() {
  if (foreground_timer_) return;
  foreground_timer_ = UniqueFd(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC));
  const itimerspec often{.it_interval = {.tv_sec = 0, .tv_nsec = kLookNanoseconds},
                         .it_value = {.tv_sec = 0, .tv_nsec = kLookNanoseconds}};
  timerfd_settime(foreground_timer_.get(), 0, &often, nullptr);
  const auto look = [this](uint32_t) {
    uint64_t count;
    [[maybe_unused]] const ssize_t n = read(foreground_timer_.get(), &count, sizeof count);
    if (!InForeground(terminal_)) return;
    StopWaiting();
    if (auto raw = MakeRaw(); !raw) {
      Log(LogLevel::kWarning, fmt::format("{}: {}", name_, raw.error().message));
    }
    input_->ResumeForeground();
  };
  if (!loop_.AddFd(foreground_timer_.get(), EPOLLIN, look)) foreground_timer_.Reset();
}

void CharStdio::StopWaiting() {
  if (!foreground_timer_) return;
  loop_.RemoveFd(foreground_timer_.get());
  foreground_timer_.Reset();
}

CharStdio::~CharStdio() {
  if (output_) static_cast<void>(Finish());
  StopWaiting();
  in_use = false;
}

Result<void> CharStdio::Finish() {
  const int refused = output_->Finish();
  if (raw_mode_) SetLogLineEnd("\n");
  raw_mode_.Undo();
  const bool hung_up = to_terminal_ && refused == EIO;
  return CharOutput::Verdict(hung_up ? 0 : refused, "standard output");
}

}  // namespace vmm
