#include "vmm/core/host/char_stdio.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>

#include "vmm/core/base/log.h"

namespace vmm {
namespace {

std::atomic<bool> in_use{false};

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
                fmt::format("{}: standard input and output are another console's already; use "
                            "\"pty\", \"unix:PATH\" or \"file:PATH\"",
                            name));
  }
  std::unique_ptr<CharStdio> stdio(new CharStdio(std::move(name)));
  const std::string& label = stdio->name_;
  IgnoreSigpipe();
  CharSink sink = CharSink::Shared(out);
  if (sink.fd() < 0) {
    return Fail(ExitCode::kConsoleLost,
                fmt::format("{}: standard output is closed; redirect it to a file or to /dev/null, "
                            "or use \"null\"",
                            label));
  }
  auto output = CharOutput::Create(loop, [label](int error) {
    Log(LogLevel::kWarning,
        fmt::format("{}: writing to standard output failed ({}); its output is dropped from now on",
                    label, std::strerror(error)));
  });
  if (!output) return tl::unexpected(std::move(output.error()));
  stdio->output_ = std::move(*output);
  auto input = CharInput::Create(loop, [](CharInput::Event) {});
  if (!input) return tl::unexpected(std::move(input.error()));
  stdio->input_ = std::move(*input);
  stdio->output_->Attach(std::move(sink));
  if (auto taken = stdio->TakeInput(in); !taken) return tl::unexpected(std::move(taken.error()));
  return stdio;
}

Result<void> CharStdio::TakeInput(int in) {
  struct stat status{};
  if (fstat(in, &status) != 0) return {};  // closed: the guest just gets no keys
  const bool terminal = isatty(in) == 1;
  if (terminal && !InForeground(in)) {
    Log(LogLevel::kInfo,
        fmt::format("{}: in the background of its terminal, keys are not read", name_));
    return {};
  }
  if (terminal) {
    auto raw = CharExitGuard::RawTerminal(in);
    if (!raw) return tl::unexpected(std::move(raw.error()).WithContext(name_));
    raw_mode_ = std::move(*raw);
  }
  UniqueFd own;
  if (terminal || S_ISFIFO(status.st_mode)) own = OpenAgain(in, O_RDONLY | O_NONBLOCK);
  if (!own) own = UniqueFd(fcntl(in, F_DUPFD_CLOEXEC, 3));
  input_->Attach(std::move(own));
  return {};
}

CharStdio::~CharStdio() {
  if (output_) Finish();
  in_use = false;
}

void CharStdio::Finish() {
  output_->Finish();
  raw_mode_.Undo();
}

}  // namespace vmm
