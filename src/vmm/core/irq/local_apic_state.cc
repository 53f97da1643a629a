// The saved form of the local APIC. [SDM 3A] table 10-1
#include <fmt/format.h>

#include "vmm/core/irq/local_apic.h"

namespace vmm {

using apic::Bit;
using apic::Reg;

namespace {

constexpr size_t Index(Reg reg, unsigned n = 0) {
  return (Bit(reg) + 0x10 * n) / 4;
}

tl::unexpected<Error> Bad(std::string_view what) {
  return Fail(ExitCode::kConfigInvalid, fmt::format("saved state of a local APIC: {}", what));
}

}  // namespace

LocalApicState LocalApic::Save() const {
  std::lock_guard lock(mutex_);
  LocalApicState state;
  for (uint32_t offset = 0; offset < 0x400; offset += 0x10) {
    if (const auto value = ReadRegister(static_cast<Reg>(offset))) state.regs[offset / 4] = *value;
  }
  state.regs[Index(Reg::DFR)] = dfr_;
  state.regs[Index(Reg::ICR_HIGH)] = icr_high_;
  state.tsc_deadline = timer_.tsc_deadline();
  state.timer_remaining_ns = timer_.RemainingNs();
  state.esr_pending = esr_latch_;
  state.ext_int_message = ext_int_message_;
  return state;
}

Result<void> LocalApic::Load(const LocalApicState& state, uint64_t apic_base) {
  const auto reg = [&](Reg r, unsigned n = 0) { return state.regs[Index(r, n)]; };
  After after;
  {
    std::lock_guard lock(mutex_);
    const bool enable = apic_base & Bit(apic::Base::EN);
    const bool wide = apic_base & Bit(apic::Base::EXTD);
    if (!BaseBitsAreLegal(apic_base)) return Bad(fmt::format("IA32_APIC_BASE {:#x}", apic_base));
    // Both forms of the id are in use for x2APIC mode. A disabled APIC's does not matter.
    const uint32_t id = reg(Reg::ID);
    if (enable && id != id_ << 24 && !(wide && id == id_)) {
      return Bad(fmt::format("id {:#x} in that of processor {}", id, id_));
    }
    if (reg(Reg::TPR) > 0xff) return Bad("TPR");
    if (reg(Reg::IRR0) & 0xffff || reg(Reg::ISR0) & 0xffff) return Bad("a vector below 16");
    if (state.esr_pending & ~0xffu) return Bad("ESR");
    const uint32_t initial = reg(Reg::TIMER_INITIAL);
    const auto mode = static_cast<apic::TimerMode>(reg(Reg::LVT_TIMER) >> 17 & 3);
    const bool deadline_mode = mode == apic::TimerMode::kTscDeadline;
    if (state.tsc_deadline != 0 && !deadline_mode) return Bad("a TSC deadline in another mode");
    constexpr int64_t kLongest = int64_t{0xffffffff} * 128;
    if (state.timer_remaining_ns > kLongest || state.timer_remaining_ns < -1 ||
        (state.timer_remaining_ns >= 0 && (initial == 0 || deadline_mode))) {
      return Bad(fmt::format("timer with {} ns to go", state.timer_remaining_ns));
    }

    apic_base_ = apic_base;
    ResetRegisters();
    for (unsigned i = 0; i < 8; ++i) {
      isr_[i] = reg(Reg::ISR0, i);
      tmr_[i] = reg(Reg::TMR0, i);
      irr_[i] = reg(Reg::IRR0, i);
    }
    tpr_ = static_cast<uint8_t>(reg(Reg::TPR));
    ldr_ = wide ? X2ApicLdr() : reg(Reg::LDR) & 0xff000000;
    dfr_ = reg(Reg::DFR) | 0x0fffffff;
    esr_ = reg(Reg::ESR) & 0xff;
    esr_latch_ = state.esr_pending;
    RestoreMasked(state);
    icr_high_ = wide ? reg(Reg::ICR_HIGH) : reg(Reg::ICR_HIGH) & 0xff000000;
    ext_int_message_ = state.ext_int_message;
    timer_.SetMode(mode);
    timer_.SetDivide(divide_);
    timer_.Restore(deadline_mode ? 0 : initial, state.timer_remaining_ns, state.tsc_deadline);
    PublishRouting();
    lint0_ = id_ == 0 && bus_.pic_.IntrAsserted();  // an edge from before was taken then
    Update(after);
  }
  Do(after);
  return {};
}

}  // namespace vmm
