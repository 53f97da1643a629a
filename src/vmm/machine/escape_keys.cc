#include "vmm/machine/escape_keys.h"

#include <algorithm>
#include <string_view>
#include <utility>

namespace vmm {
namespace {

constexpr std::string_view kHelp =
    "\r\nvmm: Ctrl-A x  stop the machine at once\r\n"
    "     Ctrl-A p  press the power button\r\n"
    "     Ctrl-A s  suspend the machine to its file\r\n"
    "     Ctrl-A a  send Ctrl-A to the guest\r\n";

}  // namespace

EscapeKeys::EscapeKeys(CharBackend& inner, Post post, Handlers handlers)
    : inner_(inner), post_(std::move(post)), handlers_(std::move(handlers)) {
  inner_.SetReceiver(this);
}

EscapeKeys::~EscapeKeys() {
  inner_.SetReceiver(nullptr);
}

void EscapeKeys::SetReceiver(CharReceiver* receiver) {
  receiver_ = receiver;
}

void EscapeKeys::ResumeInput() {
  post_([this] { Drain(); });
}

std::vector<uint8_t> EscapeKeys::WaitingInput() const {
  std::vector<uint8_t> waiting;
  for (size_t i = 0; i < count_; ++i) waiting.push_back(held_[(first_ + i) % kHeldBack]);
  const std::vector<uint8_t> behind = inner_.WaitingInput();
  waiting.insert(waiting.end(), behind.begin(), behind.end());
  return waiting;
}

// The host side has something only when we are full: what we had is searched no second time.
void EscapeKeys::ReturnInput(std::span<const uint8_t> input) {
  const size_t ours = std::min(input.size(), kHeldBack - count_);
  for (const uint8_t byte : input.first(ours)) held_[(first_ + count_++) % kHeldBack] = byte;
  inner_.ReturnInput(input.subspan(ours));
  ResumeInput();
}

size_t EscapeKeys::OnInput(std::span<const uint8_t> data) {
  size_t taken = 0;
  for (const uint8_t byte : data) {
    if (!after_escape_ && byte == kEscape) {
      after_escape_ = true;
    } else if (after_escape_ && byte != 'a' && byte != kEscape) {
      after_escape_ = false;
      OnCommand(byte);
    } else {
      if (count_ == kHeldBack) break;
      held_[(first_ + count_++) % kHeldBack] = after_escape_ ? kEscape : byte;
      after_escape_ = false;
    }
    ++taken;
  }
  Drain();
  return taken;
}

void EscapeKeys::OnCommand(uint8_t key) {
  switch (key) {
    case 'x':
      handlers_.on_stop();
      break;
    case 'p':
      handlers_.on_power_button();
      break;
    case 's':
      handlers_.on_suspend();
      break;
    case 'h':
    case '?':
      inner_.Write({reinterpret_cast<const uint8_t*>(kHelp.data()), kHelp.size()});
      break;
    default:
      break;  // an unknown command is swallowed, not sent in part
  }
}

void EscapeKeys::Drain() {
  const bool was_full = count_ == kHeldBack;
  while (receiver_ != nullptr && count_ > 0) {
    const size_t run = std::min(count_, kHeldBack - first_);
    const size_t taken = receiver_->OnInput({&held_[first_], run});
    first_ = (first_ + taken) % kHeldBack;
    count_ -= taken;
    if (taken < run) break;
  }
  if (was_full && count_ < kHeldBack) inner_.ResumeInput();
}

}  // namespace vmm
