#include "vmm/machine/input_gate.h"

#include <algorithm>

namespace vmm {

InputGate::InputGate(CharBackend& host, const Clock& clock, TimerService& timers,
                     std::function<void(std::string)> post)
    : host_(host),
      clock_(clock),
      post_(std::move(post)),
      offer_(timers.NewTimer([this] { OfferWaiting(); })) {}

void InputGate::SetReceiver(CharReceiver* receiver) {
  port_ = receiver;
  host_.SetReceiver(receiver == nullptr ? nullptr : this);
}

size_t InputGate::OnInput(std::span<const uint8_t> data) {
  size_t taken = 0;
  {
    std::lock_guard lock(mutex_);
    taken = std::min(data.size(), kMaxOnTheWay - on_the_way_);
    on_the_way_ += taken;
    host_waits_ = taken < data.size();
  }
  if (taken > 0) post_(std::string(data.begin(), data.begin() + static_cast<ptrdiff_t>(taken)));
  return taken;
}

void InputGate::Deliver(std::string_view bytes) {
  waiting_ += bytes;
  OfferWaiting();
}

void InputGate::ResumeInput() {
  offer_->Arm(clock_.Now());
}

void InputGate::OfferWaiting() {
  if (port_ == nullptr || waiting_.empty()) return;
  const size_t taken =
      port_->OnInput({reinterpret_cast<const uint8_t*>(waiting_.data()), waiting_.size()});
  waiting_.erase(0, taken);
  bool resume = false;
  {
    std::lock_guard lock(mutex_);
    on_the_way_ -= std::min(on_the_way_, taken);  // a replay's bytes did not come from the host
    resume = host_waits_ && on_the_way_ < kMaxOnTheWay;
    if (resume) host_waits_ = false;
  }
  if (resume) host_.ResumeInput();
}

}  // namespace vmm
