#include "vmm/machine/rescue_watch.h"

#include <utility>

namespace vmm {

RescueWatch::RescueWatch(std::unique_ptr<InstructionRescuer> inner,
                         std::function<void()> on_too_many, Now now)
    : inner_(std::move(inner)), on_too_many_(std::move(on_too_many)), now_(now), window_(now()) {}

Result<Rescue> RescueWatch::Finish(unsigned cpu, CpuState& state) {
  auto finished = inner_->Finish(cpu, state);
  if (finished && TooMany()) on_too_many_();
  return finished;
}

bool RescueWatch::TooMany() {
  std::lock_guard lock(mutex_);
  const auto now = now_();
  if (now - window_ > kWithin) {
    window_ = now;
    count_ = 0;
  }
  return ++count_ == kTooMany;
}

}  // namespace vmm
