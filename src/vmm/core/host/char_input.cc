#include "vmm/core/host/char_input.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "vmm/core/host/char_exit_guard.h"

namespace vmm {

Result<std::unique_ptr<CharInput>> CharInput::Create(EventLoop& loop,
                                                     std::function<void(Event)> on_event) {
  std::unique_ptr<CharInput> input(new CharInput(loop));
  input->on_event_ = std::move(on_event);
  auto bell = CharDoorbell::Create(loop, [input = input.get()] {
    input->Turn();
    return true;
  });
  if (!bell) return tl::unexpected(std::move(bell.error()));
  input->bell_ = std::move(*bell);
  return input;
}

CharInput::~CharInput() {
  bell_.reset();
  Unwatch();
}

void CharInput::SetReceiver(CharReceiver* receiver) {
  receiver_ = receiver;
  bell_->Ring();
}

// waiting_ is set before the receiver is asked: room that it gets afterwards is heard of here.
void CharInput::Resume() {
  if (waiting_) bell_->Ring();
}

void CharInput::ResumeForeground() {
  background_ = false;
  bell_->Ring();
}

void CharInput::Attach(UniqueFd fd, bool terminal) {
  Unwatch();
  fd_ = std::move(fd);
  terminal_ = terminal;
  ended_ = background_ = false;
  bell_->Ring();
}

void CharInput::Detach() {
  while (fd_ && !ended_ && !terminal_ && held_.size() - held_from_ < kMostHeld && ReadMore() > 0) {
  }
  Unwatch();
  fd_.Reset();
  if (held_from_ < held_.size()) bell_->Ring();
}

std::vector<uint8_t> CharInput::Waiting() const {
  return {held_.begin() + static_cast<ptrdiff_t>(held_from_), held_.end()};
}

void CharInput::Return(std::span<const uint8_t> input) {
  if (input.empty()) return;
  held_.insert(held_.begin() + static_cast<ptrdiff_t>(held_from_), input.begin(), input.end());
  holds_ = true;
  bell_->Ring();
}

// Offers what is held; with that gone, reads on.
void CharInput::Turn() {
  Offer();
  if (held_from_ < held_.size() || receiver_.load() == nullptr) {
    waiting_ = true;
    // Without a watch no event comes in a loop while nothing can be done about it.
    Unwatch();
    return;
  }
  waiting_ = false;
  if (!fd_ || background_ || watched_ || Watch()) return;
  // Not for epoll: a regular file, /dev/null. There is always something to read, or the end.
  if (!ended_) OnReady(EPOLLIN);
}

void CharInput::Offer() {
  CharReceiver* const receiver = receiver_;
  while (receiver != nullptr && held_from_ < held_.size()) {
    waiting_ = true;
    const size_t taken = receiver->OnInput(std::span(held_).subspan(held_from_));
    if (taken == 0) return;
    held_from_ += taken;
  }
  if (held_from_ == held_.size()) {
    held_.clear();
    held_from_ = 0;
    if (holds_.exchange(false) && !fd_) on_event_(Event::kTaken);
  }
}

bool CharInput::Watch() {
  const uint32_t events = ended_ ? 0u : uint32_t{EPOLLIN};
  watched_ = loop_.AddFd(fd_.get(), events, [this](uint32_t ready) { OnReady(ready); }).has_value();
  return watched_;
}

void CharInput::Unwatch() {
  if (watched_) loop_.RemoveFd(fd_.get());
  watched_ = false;
}

ssize_t CharInput::ReadMore() {
  // Another process that shares the descriptor may have been faster: ask, so as not to wait.
  pollfd ready{.fd = fd_.get(), .events = POLLIN, .revents = 0};
  if (poll(&ready, 1, 0) == 0) return 0;
  const size_t before = held_.size();
  held_.resize(before + kReadSize);
  const ssize_t n = read(fd_.get(), held_.data() + before, kReadSize);
  const int error = errno;
  held_.resize(before + static_cast<size_t>(n > 0 ? n : 0));
  if (n > 0) {
    holds_ = true;
    return n;
  }
  return n < 0 && (error == EAGAIN || error == EINTR) ? 0 : -1;
}

void CharInput::OnReady(uint32_t events) {
  if (terminal_ && !InForeground(fd_.get())) {
    background_ = true;
    Unwatch();
    return on_event_(Event::kBackground);
  }
  if (!ended_) {
    const ssize_t n = ReadMore();
    if (n == 0) return;
    if (n > 0) return watched_ ? Turn() : bell_->Ring();
    ended_ = true;
    Unwatch();  // level-triggered: it would come again and again
    on_event_((events & (EPOLLHUP | EPOLLERR)) != 0 ? Event::kHangUp : Event::kEndOfFile);
    if (fd_ && (events & EPOLLHUP) == 0) Watch();
    return;
  }
  Unwatch();
  on_event_(Event::kHangUp);
}

}  // namespace vmm
