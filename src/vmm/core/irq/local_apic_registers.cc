// The register file of the local APIC: its MMIO page, its MSRs and CR8.
#include <algorithm>
#include <cstring>

#include "vmm/core/irq/local_apic.h"

namespace vmm {

using apic::Bit;
using apic::DeliveryMode;
using apic::Icr;
using apic::Lvt;
using apic::Reg;

namespace {

constexpr unsigned kLvtTimer = 0, kLvtLint0 = 3;
constexpr uint32_t kLvtCommon = Bit(Lvt::VECTOR) | Bit(Lvt::MASKED);
constexpr uint32_t kLvtPin = kLvtCommon | Bit(Lvt::MODE) | Bit(Lvt::POLARITY) | Bit(Lvt::LEVEL);
// What software may write, by entry; and the read-only bits, which writes leave alone.
constexpr std::array<uint32_t, 6> kLvtWritable = {kLvtCommon | Bit(Lvt::TIMER_MODE),
                                                  kLvtCommon | Bit(Lvt::MODE),
                                                  kLvtCommon | Bit(Lvt::MODE),
                                                  kLvtPin,
                                                  kLvtPin,
                                                  kLvtCommon};
constexpr uint32_t kLvtReadOnly = Bit(Lvt::STATUS) | Bit(Lvt::REMOTE_IRR);
constexpr uint32_t kSvrWritable =
    0xff | Bit(apic::Svr::ENABLE) | Bit(apic::Svr::FOCUS) | Bit(apic::Svr::NO_EOI_BROADCAST);
constexpr uint32_t kIcrWritable = Bit(Icr::VECTOR) | Bit(Icr::MODE) | Bit(Icr::LOGICAL) |
                                  Bit(Icr::ASSERT) | Bit(Icr::LEVEL) | Bit(Icr::SHORTHAND);
constexpr uint32_t kDivideWritable = 0xb;

constexpr unsigned LvtIndex(Reg reg) {
  return (Bit(reg) - Bit(Reg::LVT_TIMER)) >> 4;
}
constexpr unsigned VectorWord(Reg reg) {
  return Bit(reg) >> 4 & 7;
}

// The bits that a WRMSR to `reg` may set without #GP; 0 for those that take only 0. Read-only
// registers and holes are not here. [SDM 3A] 10.12.1.2
constexpr std::optional<uint32_t> X2ApicWritable(Reg reg) {
  switch (reg) {
    case Reg::TPR:
    case Reg::SELF_IPI:
      return 0xff;
    case Reg::EOI:
    case Reg::ESR:
      return 0;
    case Reg::SVR:
      return kSvrWritable;
    case Reg::ICR_LOW:
      return kIcrWritable | Bit(Icr::STATUS);
    case Reg::LVT_TIMER:
    case Reg::LVT_THERMAL:
    case Reg::LVT_PERFMON:
    case Reg::LVT_LINT0:
    case Reg::LVT_LINT1:
    case Reg::LVT_ERROR:
      return kLvtWritable[LvtIndex(reg)] | kLvtReadOnly;
    case Reg::TIMER_INITIAL:
      return ~0u;
    case Reg::TIMER_DIVIDE:
      return kDivideWritable;
    default:
      return std::nullopt;
  }
}

}  // namespace

// --- Registers ---

std::optional<uint32_t> LocalApic::ReadRegister(Reg reg) const {
  const bool wide = x2apic();
  switch (reg) {
    case Reg::ID:
      return wide ? id_ : id_ << 24;
    case Reg::VERSION:
      return apic::kVersion;
    case Reg::TPR:
      return tpr_.load();
    case Reg::PPR:
      return ppr();
    case Reg::LDR:
      return ldr_;
    case Reg::APR:  // not in processors of this version
    case Reg::RRD:
    case Reg::EOI:  // write only
      return wide ? std::nullopt : std::optional<uint32_t>(0);
    case Reg::DFR:
      return wide ? std::nullopt : std::optional<uint32_t>(dfr_);
    case Reg::SVR:
      return svr_;
    case Reg::ESR:
      return esr_;
    case Reg::ICR_LOW:
      return icr_low_;
    case Reg::ICR_HIGH:
      return wide ? std::nullopt : std::optional<uint32_t>(icr_high_);
    case Reg::LVT_TIMER:
    case Reg::LVT_THERMAL:
    case Reg::LVT_PERFMON:
    case Reg::LVT_LINT0:
    case Reg::LVT_LINT1:
    case Reg::LVT_ERROR:
      return lvt_[LvtIndex(reg)];
    case Reg::TIMER_INITIAL:
      return timer_.initial_count();
    case Reg::TIMER_CURRENT:
      return timer_.CurrentCount();
    case Reg::TIMER_DIVIDE:
      return divide_;
    default:
      break;
  }
  const uint32_t offset = Bit(reg);
  if (offset >= Bit(Reg::ISR0) && offset < Bit(Reg::TMR0)) return isr_[VectorWord(reg)];
  if (offset >= Bit(Reg::TMR0) && offset < Bit(Reg::IRR0)) return tmr_[VectorWord(reg)];
  if (offset >= Bit(Reg::IRR0) && offset < Bit(Reg::ESR)) return irr_[VectorWord(reg)];
  return std::nullopt;
}

bool LocalApic::WriteRegister(Reg reg, uint32_t value, After& after) {
  switch (reg) {
    case Reg::TPR:
      tpr_ = static_cast<uint8_t>(value);
      Update(after);
      return true;
    case Reg::EOI:
      EndOfInterrupt(after);
      return true;
    case Reg::LDR:
      ldr_ = value & 0xff000000;
      PublishRouting();
      return true;
    case Reg::DFR:
      dfr_ = value | 0x0fffffff;
      PublishRouting();
      return true;
    case Reg::SVR:
      WriteSvr(value, after);
      return true;
    case Reg::ESR:
      // Any write shows what has piled up since the last. [SDM 3A] 10.5.3
      esr_ = esr_latch_;
      esr_latch_ = 0;
      return true;
    case Reg::ICR_LOW:
      WriteIcr(value, icr_high_, after);
      return true;
    case Reg::ICR_HIGH:
      icr_high_ = value & 0xff000000;
      return true;
    case Reg::LVT_TIMER:
    case Reg::LVT_THERMAL:
    case Reg::LVT_PERFMON:
    case Reg::LVT_LINT0:
    case Reg::LVT_LINT1:
    case Reg::LVT_ERROR:
      WriteLvt(LvtIndex(reg), value, after);
      return true;
    case Reg::TIMER_INITIAL:
      timer_.SetInitialCount(value);
      return true;
    case Reg::TIMER_DIVIDE:
      divide_ = value & kDivideWritable;
      timer_.SetDivide(divide_);
      return true;
    case Reg::ID:  // read only in processors of this version, as those below
    case Reg::VERSION:
    case Reg::APR:
    case Reg::PPR:
    case Reg::RRD:
    case Reg::TIMER_CURRENT:
      return true;
    default:
      return Bit(reg) >= Bit(Reg::ISR0) && Bit(reg) < Bit(Reg::ESR);
  }
}

void LocalApic::WriteSvr(uint32_t value, After& after) {
  svr_ = value & kSvrWritable;
  // [SDM 3A] 10.4.7.2: while disabled, all LVT entries are masked.
  if (!software_enabled()) {
    for (uint32_t& lvt : lvt_) lvt |= Bit(Lvt::MASKED);
  }
  PublishRouting();
  Update(after);
}

void LocalApic::WriteLvt(unsigned index, uint32_t value, After& after) {
  uint32_t& lvt = lvt_[index];
  const bool took_ext_int = Lint0TakesExtInt();
  lvt = (value & kLvtWritable[index]) | (lvt & kLvtReadOnly);
  if (!software_enabled()) lvt |= Bit(Lvt::MASKED);
  if (index == kLvtTimer) timer_.SetMode(static_cast<apic::TimerMode>(lvt >> 17 & 3));
  if (index != kLvtLint0) return;
  const bool fixed_level = (lvt & (Bit(Lvt::MODE) | Bit(Lvt::LEVEL))) == Bit(Lvt::LEVEL);
  if (!fixed_level) lvt &= ~Bit(Lvt::REMOTE_IRR);
  // A level-triggered input that is already high counts at once; an edge has passed.
  if (lint0_ && fixed_level && !took_ext_int) DeliverLvt(kLvtLint0, after);
  Update(after);
}

// [SDM 3A] 10.6.1
void LocalApic::WriteIcr(uint32_t low, uint32_t high, After& after) {
  icr_low_ = low & kIcrWritable;  // delivery is over before the guest can look
  icr_high_ = high;
  ApicMessage& message = after.message;
  message.mode = static_cast<DeliveryMode>(low >> 8 & 7);
  message.vector = static_cast<uint8_t>(low & Bit(Icr::VECTOR));
  message.logical = low & Bit(Icr::LOGICAL);
  message.wide = x2apic();
  message.destination = message.wide ? high : high >> 24;
  message.shorthand = static_cast<ApicMessage::Shorthand>(low >> 18 & 3);
  const bool to_self = message.shorthand == ApicMessage::Shorthand::kSelf ||
                       message.shorthand == ApicMessage::Shorthand::kAll;
  switch (message.mode) {
    case DeliveryMode::kFixed:
    case DeliveryMode::kLowestPriority:
      if (message.vector < 16) return RaiseError(apic::Esr::SEND_ILLEGAL_VECTOR, after);
      break;
    case DeliveryMode::kNmi:
      break;
    case DeliveryMode::kInit:
      // De-assert only sets arbitration ids, which have no effect here.
      if ((low & Bit(Icr::LEVEL)) && !(low & Bit(Icr::ASSERT))) return;
      if (to_self) return;  // [SDM 3A] table 10-3
      break;
    case DeliveryMode::kStartUp:
      if (to_self) return;
      break;
    default:
      return;
  }
  after.send = true;
}

// --- MMIO ---

void LocalApic::Read(uint64_t offset, std::span<uint8_t> data) {
  if (!hardware_enabled() || x2apic()) {
    std::fill(data.begin(), data.end(), 0xff);
    return;
  }
  std::fill(data.begin(), data.end(), 0);
  After after;
  {
    std::lock_guard lock(mutex_);
    const unsigned skip = offset & 0xf;
    if (skip >= 4) return;
    const std::optional<uint32_t> value = ReadRegister(static_cast<Reg>(offset & 0xff0));
    if (!value) RaiseError(apic::Esr::ILLEGAL_REGISTER, after);
    const uint32_t shown = value.value_or(0) >> (8 * skip);
    std::memcpy(data.data(), &shown, std::min<size_t>(data.size(), 4 - skip));
  }
  Do(after);
}

void LocalApic::Write(uint64_t offset, std::span<const uint8_t> data) {
  if (!hardware_enabled() || x2apic()) return;
  if (data.size() < 4 || (offset & 0xf) != 0) return;
  uint32_t value;
  std::memcpy(&value, data.data(), sizeof(value));
  After after;
  {
    std::lock_guard lock(mutex_);
    if (!WriteRegister(static_cast<Reg>(offset & 0xff0), value, after)) {
      RaiseError(apic::Esr::ILLEGAL_REGISTER, after);
    }
  }
  Do(after);
}

// --- MSRs ---

bool LocalApic::ReadMsr(uint32_t index, uint64_t* value) {
  std::lock_guard lock(mutex_);
  if (index == apic::kMsrApicBase) {
    *value = apic_base();
    return true;
  }
  if (index == apic::kMsrTscDeadline) {
    *value = timer_.tsc_deadline();
    return true;
  }
  if (!HandlesMsr(index) || !x2apic()) return false;
  const auto reg = static_cast<Reg>((index - apic::kMsrBase) << 4);
  const std::optional<uint32_t> low = ReadRegister(reg);
  if (!low) return false;
  *value = *low;
  if (reg == Reg::ICR_LOW) *value |= uint64_t{icr_high_} << 32;
  return true;
}

bool LocalApic::WriteMsr(uint32_t index, uint64_t value) {
  After after;
  {
    std::lock_guard lock(mutex_);
    if (index == apic::kMsrApicBase) {
      if (!BaseIsLegal(value)) return false;
      SetBase(value, after);
    } else if (index == apic::kMsrTscDeadline) {
      if (timer_.SetTscDeadline(value)) DeliverLvt(kLvtTimer, after);
    } else if (!HandlesMsr(index) || !x2apic() || !WriteX2Apic(index, value, after)) {
      return false;
    }
  }
  Do(after);
  return true;
}

bool LocalApic::WriteX2Apic(uint32_t index, uint64_t value, After& after) {
  const auto reg = static_cast<Reg>((index - apic::kMsrBase) << 4);
  const std::optional<uint32_t> writable = X2ApicWritable(reg);
  if (!writable) return false;
  const auto low = static_cast<uint32_t>(value);
  if ((low & ~*writable) != 0) return false;
  if (reg == Reg::ICR_LOW) {
    WriteIcr(low, static_cast<uint32_t>(value >> 32), after);
    return true;
  }
  if (value >> 32 != 0) return false;
  if (reg == Reg::SELF_IPI) {
    // As a fixed, edge-triggered self IPI; the ICR keeps its contents. [SDM 3A] 10.12.11
    if (low < 16) {
      RaiseError(apic::Esr::SEND_ILLEGAL_VECTOR, after);
    } else if (software_enabled()) {
      Accept(static_cast<uint8_t>(low), false, after);
    }
    return true;
  }
  return WriteRegister(reg, low, after);
}

// [SDM 3A] 10.12.5, table 10-5
bool LocalApic::BaseBitsAreLegal(uint64_t base) const {
  constexpr uint64_t kFlags = Bit(apic::Base::BSP) | Bit(apic::Base::EXTD) | Bit(apic::Base::EN);
  const uint64_t address = (uint64_t{1} << physical_address_bits_) - kPageSize;
  if (base & ~(kFlags | address)) return false;
  return (base & Bit(apic::Base::EN)) || !(base & Bit(apic::Base::EXTD));
}

bool LocalApic::BaseIsLegal(uint64_t base) const {
  if (!BaseBitsAreLegal(base)) return false;
  const bool enable = base & Bit(apic::Base::EN), extend = base & Bit(apic::Base::EXTD);
  if (x2apic() && enable && !extend) return false;
  return !(extend && !hardware_enabled());
}

void LocalApic::SetBase(uint64_t base, After& after) {
  const bool was_enabled = hardware_enabled(), was_x2apic = x2apic();
  apic_base_ = base;
  if (was_enabled && !hardware_enabled()) {
    // What was set up is lost. [SDM 3A] 10.4.3, 10.12.5.1
    ResetRegisters();
    SampleLint0(after);
  }
  if (x2apic() && !was_x2apic) {
    // [SDM 3A] 10.12.10.2: the logical id follows from the APIC id.
    ldr_ = X2ApicLdr();
    dfr_ = ~0u;
    icr_high_ = 0;
  }
  PublishRouting();
  Update(after);
}

void LocalApic::set_cr8(uint8_t value) {
  After after;
  {
    std::lock_guard lock(mutex_);
    tpr_ = static_cast<uint8_t>(value << 4);
    Update(after);
  }
  Do(after);
}

void LocalApic::RestoreMasked(const LocalApicState& state) {
  const auto saved = [&](Reg reg) { return state.regs[Bit(reg) / 4]; };
  svr_ = saved(Reg::SVR) & kSvrWritable;
  icr_low_ = saved(Reg::ICR_LOW) & kIcrWritable;
  divide_ = saved(Reg::TIMER_DIVIDE) & kDivideWritable;
  for (unsigned i = 0; i < lvt_.size(); ++i) {
    const uint32_t remote_irr = i == kLvtLint0 ? Bit(Lvt::REMOTE_IRR) : 0;
    lvt_[i] = state.regs[Bit(Reg::LVT_TIMER) / 4 + i * 4] & (kLvtWritable[i] | remote_irr);
  }
}

}  // namespace vmm
