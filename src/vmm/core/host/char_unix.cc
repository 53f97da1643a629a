#include "vmm/core/host/char_unix.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <string_view>

#include "vmm/core/base/log.h"

namespace vmm {
namespace {

constexpr std::string_view kTaken = "vmm: another client has this console; close it first\r\n";

}  // namespace

Result<std::unique_ptr<CharUnix>> CharUnix::Open(EventLoop& loop, std::string path,
                                                 std::string name) {
  std::unique_ptr<CharUnix> backend(new CharUnix(loop, std::move(path), std::move(name)));
  CharUnix* const self = backend.get();
  auto output = CharOutput::Create(loop, {[self](int) { self->DropClient(); }});
  if (!output) return tl::unexpected(std::move(output.error()));
  self->output_ = std::move(*output);
  auto input = CharInput::Create(loop, [self](CharInput::Event event) {
    if (event == CharInput::Event::kHangUp) self->DropClient();
    if (event == CharInput::Event::kTaken) self->output_->TellWatcher();
  });
  if (!input) return tl::unexpected(std::move(input.error()));
  self->input_ = std::move(*input);
  if (auto listening = self->Listen(); !listening) {
    return tl::unexpected(std::move(listening.error()));
  }
  return backend;
}

Result<void> CharUnix::Listen() {
  auto listener = ListenUnix(path_, ExitCode::kConsoleLost);
  if (!listener) return tl::unexpected(std::move(listener.error()));
  listener_ = std::move(*listener);
  return loop_.AddFd(listener_.fd.get(), EPOLLIN, [this](uint32_t) { OnConnection(); });
}

Result<void> CharUnix::Finish() {
  output_->Finish();
  return {};  // it writes to readers only
}

CharUnix::~CharUnix() {
  if (output_) output_->Finish();
  if (listener_.fd) loop_.RemoveFd(listener_.fd.get());
}

void CharUnix::OnConnection() {
  UniqueFd client(accept4(listener_.fd.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (!client) {
    if (errno == EMFILE || errno == ENFILE) {
      // It would ask again at once, for ever: nobody can attach to this console any more.
      loop_.RemoveFd(listener_.fd.get());
      Log(LogLevel::kWarning, fmt::format("{}: no descriptor left for a client of {}; no more are "
                                          "accepted",
                                          name_, path_));
    }
    return;
  }
  if (ClientAlive()) {
    send(client.get(), kTaken.data(), kTaken.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    return;
  }
  DropClient();
  UniqueFd for_input(fcntl(client.get(), F_DUPFD_CLOEXEC, 3));
  if (!for_input) return;
  client_ = client.get();
  input_->Attach(std::move(for_input));
  output_->Attach(CharSink::Socket(std::move(client)));
}

// One that has gone is not always heard of: its input is not watched while the guest reads none.
bool CharUnix::ClientAlive() {
  if (client_ < 0) return false;
  pollfd state{.fd = client_, .events = 0, .revents = 0};
  return poll(&state, 1, 0) == 0;
}

void CharUnix::DropClient() {
  if (client_ < 0) return;
  client_ = -1;
  input_->Detach();  // first: it may hold something, and then the client still counts
  output_->Detach();
}

}  // namespace vmm
