#include "vmm/core/host/char_socket.h"

#include <fcntl.h>

#include <cerrno>

namespace vmm {

Result<std::unique_ptr<CharSocket>> CharSocket::Open(EventLoop& loop, int fd) {
  UniqueFd for_output(fcntl(fd, F_DUPFD_CLOEXEC, 3)), for_input(fcntl(fd, F_DUPFD_CLOEXEC, 3));
  if (!for_output || !for_input) {
    return FailErrno(ExitCode::kConsoleLost, "can't take over the socket of a console", errno);
  }
  std::unique_ptr<CharSocket> backend(new CharSocket());
  CharSocket* const self = backend.get();
  auto output = CharOutput::Create(loop, {[self](int) { self->output_->Detach(); }});
  if (!output) return tl::unexpected(std::move(output.error()));
  self->output_ = std::move(*output);
  auto input = CharInput::Create(loop, [self](CharInput::Event event) {
    if (event == CharInput::Event::kHangUp) self->input_->Detach();
  });
  if (!input) return tl::unexpected(std::move(input.error()));
  self->input_ = std::move(*input);
  self->input_->Attach(std::move(for_input));
  self->output_->Attach(CharSink::Socket(std::move(for_output)));
  return backend;
}

}  // namespace vmm
