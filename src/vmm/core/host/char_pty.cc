#include "vmm/core/host/char_pty.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/timerfd.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "vmm/core/base/log.h"

namespace vmm {
namespace {

// Where inotify is not to be had, readers are looked for so often.
constexpr long kLookNanoseconds = 200'000'000;
// At the end, a reader has so long to take what the kernel still holds, as long as it takes any:
// closing throws it away. The kernel moves it to where it can be counted on a thread of its own, so
// nothing is left only where nothing was for a while.
constexpr int kDrainMs = 5, kIdleTries = 100, kMostTries = 600, kEmptyTries = 6;

// Opens the other side for a moment. Also makes the master say that nobody is there: before the
// first open and close it does not.
void ResetTerminal(const std::string& path) {
  const UniqueFd terminal(open(path.c_str(), O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK));
  if (!terminal) return;
  termios mode{};
  if (tcgetattr(terminal.get(), &mode) == 0) {
    cfmakeraw(&mode);
    tcsetattr(terminal.get(), TCSANOW, &mode);
  }
  tcflush(terminal.get(), TCIFLUSH);  // what the last reader left; the next gets it from the ring
}

}  // namespace

Result<std::unique_ptr<CharPty>> CharPty::Open(EventLoop& loop, std::string name) {
  std::unique_ptr<CharPty> pty(new CharPty(loop, std::move(name)));
  CharPty* const self = pty.get();
  auto output = CharOutput::Create(loop, {[self](int) { self->OnReaderGone(); }});
  if (!output) return tl::unexpected(std::move(output.error()));
  self->output_ = std::move(*output);
  auto input = CharInput::Create(loop, [self](CharInput::Event event) {
    if (event == CharInput::Event::kTaken) return self->output_->TellWatcher();
    self->OnReaderGone();
  });
  if (!input) return tl::unexpected(std::move(input.error()));
  self->input_ = std::move(*input);
  if (auto made = self->Make(); !made) return tl::unexpected(std::move(made.error()));
  Log(LogLevel::kInfo, fmt::format("{} is on {}", self->name_, self->path_));
  return pty;
}

Result<void> CharPty::Make() {
  const auto fail = [&](const char* what) {
    return Fail(
        ExitCode::kConsoleLost,
        fmt::format("can't make a pseudo-terminal ({}: {}); see that /dev/pts is mounted and "
                    "kernel.pty.max is not reached, or use \"unix:PATH\"",
                    what, std::strerror(errno)));
  };
  master_ = UniqueFd(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK));
  if (!master_) return fail("/dev/ptmx");
  if (grantpt(master_.get()) != 0 || unlockpt(master_.get()) != 0) return fail("grantpt");
  std::array<char, 64> path{};
  if (const int error = ptsname_r(master_.get(), path.data(), path.size()); error != 0) {
    errno = error;
    return fail("ptsname");
  }
  path_ = path.data();
  ResetTerminal(path_);
  return WatchForReaders();
}

Result<void> CharPty::WatchForReaders() {
  opened_ = UniqueFd(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  if (!opened_ || inotify_add_watch(opened_.get(), path_.c_str(), IN_OPEN | IN_CLOSE) < 0) {
    opened_ = UniqueFd(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC));
    const itimerspec often{.it_interval = {.tv_sec = 0, .tv_nsec = kLookNanoseconds},
                           .it_value = {.tv_sec = 0, .tv_nsec = kLookNanoseconds}};
    timerfd_settime(opened_.get(), 0, &often, nullptr);
  }
  if (!opened_) return FailErrno(ExitCode::kOsError, path_, errno);
  return loop_.AddFd(opened_.get(), EPOLLIN, [this](uint32_t) {
    std::array<char, 4096> events;
    while (read(opened_.get(), events.data(), events.size()) > 0) {
    }
    OnChange();
  });
}

CharPty::~CharPty() {
  if (master_) Finish();
  if (opened_) loop_.RemoveFd(opened_.get());
}

bool CharPty::ReaderThere() const {
  pollfd state{.fd = master_.get(), .events = 0, .revents = 0};
  return poll(&state, 1, 0) == 0;  // else POLLHUP
}

void CharPty::OnChange() {
  if (attached_ == ReaderThere()) return;
  if (attached_) return OnReaderGone();  // while its input was not watched
  UniqueFd in(fcntl(master_.get(), F_DUPFD_CLOEXEC, 3));
  UniqueFd out(fcntl(master_.get(), F_DUPFD_CLOEXEC, 3));
  if (!in || !out) return;
  attached_ = true;
  input_->Attach(std::move(in));
  output_->Attach(CharSink::Own(std::move(out)));
}

void CharPty::OnReaderGone() {
  if (!attached_) return;
  attached_ = false;
  input_->Detach();  // first: it may hold something, and then the reader still counts
  output_->Detach();
  if (!ReaderThere()) ResetTerminal(path_);
  if (ReaderThere()) OnChange();  // somebody else in the meantime
}

Result<void> CharPty::Finish() {
  if (!attached_) return {};
  output_->Finish();
  const UniqueFd terminal(open(path_.c_str(), O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK));
  if (!terminal) return {};
  int last = 0;
  for (int tries = 0, idle = 0, empty = 0; tries < kMostTries; ++tries) {
    int waiting = 0;
    if (ioctl(terminal.get(), TIOCINQ, &waiting) != 0) break;
    empty = waiting == 0 ? empty + 1 : 0;
    idle = waiting == std::exchange(last, waiting) ? idle + 1 : 0;
    if (empty == kEmptyTries || idle == kIdleTries) break;
    poll(nullptr, 0, kDrainMs);
  }
  return {};
}

}  // namespace vmm
