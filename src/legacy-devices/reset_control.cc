#include "legacy-devices/reset_control.h"

#include <algorithm>
#include <utility>

namespace legacy {

using namespace reset_control;

ResetControl::ResetControl(std::function<void(std::string_view)> reset, A20Gate& a20)
    : reset_control_("reset-control", *this, &ResetControl::ReadResetControl,
                     &ResetControl::WriteResetControl),
      port_a_("port-a", *this, &ResetControl::ReadPortA, &ResetControl::WritePortA),
      reset_(std::move(reset)),
      a20_(a20) {}

void ResetControl::ReadResetControl(uint64_t offset, std::span<uint8_t> data) {
  std::lock_guard lock(mutex_);
  std::fill(data.begin(), data.end(), uint8_t{0xFF});
  if (offset == 0 && !data.empty()) data[0] = state_.RC.raw();
}

void ResetControl::WriteResetControl(uint64_t offset, std::span<const uint8_t> data) {
  if (offset != 0 || data.empty()) return;
  bool rises = false;
  {
    std::lock_guard lock(mutex_);
    const vmm::BitRegister<RC> written(data[0] & kRcMask);
    rises = written.Has(RC::RCPU) && !state_.RC.Has(RC::RCPU);
    state_.RC = written;
  }
  if (rises) reset_("port 0xCF9");
}

void ResetControl::ReadPortA(uint64_t offset, std::span<uint8_t> data) {
  std::lock_guard lock(mutex_);
  std::fill(data.begin(), data.end(), uint8_t{0xFF});
  if (offset != 0 || data.empty()) return;
  vmm::BitRegister<PORTA> value = state_.PORTA;
  value.Assign(PORTA::A20, a20_.open());
  data[0] = value.raw();
}

void ResetControl::WritePortA(uint64_t offset, std::span<const uint8_t> data) {
  if (offset != 0 || data.empty()) return;
  bool rises = false;
  {
    std::lock_guard lock(mutex_);
    const vmm::BitRegister<PORTA> written(data[0]);
    rises = written.Has(PORTA::FAST_RESET) && !state_.PORTA.Has(PORTA::FAST_RESET);
    state_.PORTA = vmm::BitRegister<PORTA>(written.Field(kPortAStored));
    a20_.Set(written.Has(PORTA::A20));
  }
  if (rises) reset_("port 0x92");
}

void ResetControl::Reset() {
  std::lock_guard lock(mutex_);
  state_ = {};
}

ResetControlState ResetControl::Save() const {
  std::lock_guard lock(mutex_);
  return state_;
}

vmm::Result<void> ResetControl::Load(const ResetControlState& state) {
  if (state.version != ResetControlState::kVersion || !state.RC.IsWithin(kRcMask) ||
      !state.PORTA.IsWithin(kPortAStored))
    return vmm::Fail(vmm::ExitCode::kConfigInvalid,
                     "reset-control: the saved state is not one of the reset registers");
  std::lock_guard lock(mutex_);
  state_ = state;
  return {};
}

}  // namespace legacy
