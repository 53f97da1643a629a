#include "vmm/core/irq/local_apic.h"

#include <bit>

namespace vmm {

using apic::Bit;
using apic::DeliveryMode;
using apic::Lvt;

namespace {

constexpr unsigned kLvtTimer = 0, kLvtLint0 = 3, kLvtLint1 = 4, kLvtError = 5;
constexpr uint32_t kLvtExtInt = static_cast<uint32_t>(DeliveryMode::kExtInt) << 8;
constexpr uint8_t kFirstLegalVector = 16;  // [SDM 3A] 10.5.2

int Highest(const std::array<uint32_t, 8>& vectors) {
  for (int i = 7; i >= 0; --i) {
    if (vectors[i] != 0) return i * 32 + std::bit_width(vectors[i]) - 1;
  }
  return -1;
}

void SetVector(std::array<uint32_t, 8>& vectors, uint8_t vector, bool value) {
  const uint32_t bit = 1u << (vector & 31);
  uint32_t& word = vectors[vector >> 5];
  word = value ? word | bit : word & ~bit;
}

bool TestVector(const std::array<uint32_t, 8>& vectors, uint8_t vector) {
  return vectors[vector >> 5] >> (vector & 31) & 1;
}

DeliveryMode ModeOf(uint32_t lvt) {
  return static_cast<DeliveryMode>(lvt >> 8 & 7);
}

}  // namespace

LocalApic::LocalApic(unsigned id, const Clock& clock, TimerService& timers, ApicBus& bus,
                     Host& host)
    : id_(id), bus_(bus), host_(host), timer_(clock, timers, [this] { OnTimer(); }) {
  {
    std::lock_guard lock(mutex_);
    apic_base_ = apic::kDefaultBase | Bit(apic::Base::EN) | (id_ == 0 ? Bit(apic::Base::BSP) : 0);
    ResetRegisters();
  }
  bus_.Join(id_, *this);
}

LocalApic::~LocalApic() {
  bus_.Leave(id_);
}

// --- Resets ---

void LocalApic::Reset() {
  After after;
  {
    std::lock_guard lock(mutex_);
    apic_base_ = apic::kDefaultBase | Bit(apic::Base::EN) | (id_ == 0 ? Bit(apic::Base::BSP) : 0);
    ResetRegisters();
    attention_.store(0, std::memory_order_release);
    SampleLint0(after);
    Update(after);
  }
  Do(after);
}

void LocalApic::InitReset() {
  After after;
  {
    std::lock_guard lock(mutex_);
    ResetRegisters();
    // An INIT or SIPI that came since TakeInit() stays.
    attention_.fetch_and(kInit | kSipi, std::memory_order_acq_rel);
    SampleLint0(after);
    Update(after);
  }
  Do(after);
}

// [SDM 3A] 10.4.7.1
void LocalApic::ResetRegisters() {
  irr_ = isr_ = tmr_ = {};
  tpr_ = 0;
  svr_ = 0xff;
  ldr_ = 0;
  dfr_ = ~0u;
  icr_low_ = icr_high_ = 0;
  esr_ = esr_latch_ = 0;
  divide_ = 0;
  lvt_.fill(Bit(Lvt::MASKED));
  if (id_ == 0) lvt_[kLvtLint0] = kLvtExtInt;
  ext_int_message_ = false;
  lint0_ = false;
  timer_.Reset();
  PublishRouting();
}

// --- Acceptance ---

void LocalApic::Do(const After& after) {
  if (after.send) bus_.Send(after.message, id_);
  if (after.eoi_vector >= 0) bus_.ioapic_.OnEoi(static_cast<uint8_t>(after.eoi_vector));
  if (after.attention) host_.OnApicAttention();
}

// Priorities and what they let through. [SDM 3A] 10.8.3
void LocalApic::Update(After& after) {
  const int in_service = Highest(isr_);
  const uint8_t tpr = tpr_;
  const uint8_t service_class = in_service < 0 ? 0 : in_service & 0xf0;
  const uint8_t ppr = (tpr & 0xf0) >= service_class ? tpr : service_class;
  ppr_.store(ppr, std::memory_order_relaxed);

  const uint32_t old = attention_.load(std::memory_order_relaxed);
  uint32_t now = old & (kNmi | kInit | kSipi);
  const int requested = Highest(irr_);
  if (hardware_enabled() && requested >= 0 && (requested & 0xf0) > (ppr & 0xf0)) now |= kInterrupt;
  if ((lint0_ && Lint0TakesExtInt()) || ext_int_message_) now |= kExtInt;
  attention_.store(now, std::memory_order_release);
  if (now & ~old) after.attention = true;
}

void LocalApic::Raise(uint32_t bits, After& after) {
  const uint32_t old = attention_.fetch_or(bits, std::memory_order_acq_rel);
  if (bits & ~old) after.attention = true;
}

void LocalApic::Accept(uint8_t vector, bool level, After& after) {
  if (vector < kFirstLegalVector) return RaiseError(apic::Esr::RECEIVE_ILLEGAL_VECTOR, after);
  SetVector(irr_, vector, true);
  SetVector(tmr_, vector, level);
  Update(after);
}

void LocalApic::Deliver(DeliveryMode mode, uint8_t vector, bool level) {
  After after;
  {
    std::lock_guard lock(mutex_);
    if (!hardware_enabled()) return;
    switch (mode) {
      case DeliveryMode::kFixed:
      case DeliveryMode::kLowestPriority:
        // Software disable refuses these only. [SDM 3A] 10.4.7.2
        if (software_enabled()) Accept(vector, level, after);
        break;
      case DeliveryMode::kNmi:
        Raise(kNmi, after);
        break;
      case DeliveryMode::kInit:
        attention_.fetch_and(~uint32_t{kSipi}, std::memory_order_acq_rel);
        Raise(kInit, after);
        break;
      case DeliveryMode::kStartUp:
        sipi_vector_ = vector;
        Raise(kSipi, after);
        break;
      case DeliveryMode::kExtInt:
        if (!software_enabled()) break;
        ext_int_message_ = true;
        Update(after);
        break;
      case DeliveryMode::kSmi:  // there is no system management mode
      default:
        break;
    }
  }
  Do(after);
}

int LocalApic::Acknowledge() {
  {
    std::lock_guard lock(mutex_);
    const uint32_t attention = attention_.load(std::memory_order_relaxed);
    After after;
    if (!(attention & kExtInt)) {
      if (!(attention & kInterrupt)) return -1;
      const auto vector = static_cast<uint8_t>(Highest(irr_));
      SetVector(irr_, vector, false);
      SetVector(isr_, vector, true);
      Update(after);
      return vector;
    }
    ext_int_message_ = false;
    Update(after);
  }
  const int vector = bus_.pic_.AcknowledgeInterrupt();
  ExtIntChanged();
  return vector;
}

bool LocalApic::TakeNmi() {
  if (!HasNmi()) return false;
  std::lock_guard lock(mutex_);
  return attention_.fetch_and(~uint32_t{kNmi}, std::memory_order_acq_rel) & kNmi;
}

bool LocalApic::TakeInit() {
  if (!HasInit()) return false;
  std::lock_guard lock(mutex_);
  return attention_.fetch_and(~uint32_t{kInit}, std::memory_order_acq_rel) & kInit;
}

int LocalApic::TakeSipi() {
  if (!HasSipi()) return -1;
  std::lock_guard lock(mutex_);
  const uint32_t old = attention_.fetch_and(~uint32_t{kSipi}, std::memory_order_acq_rel);
  return old & kSipi ? sipi_vector_ : -1;
}

// [SDM 3A] 10.8.5
void LocalApic::EndOfInterrupt(After& after) {
  const int vector = Highest(isr_);
  if (vector < 0) return;
  const auto v = static_cast<uint8_t>(vector);
  SetVector(isr_, v, false);
  if (TestVector(tmr_, v)) {
    uint32_t& lint0 = lvt_[kLvtLint0];
    if ((lint0 & Bit(Lvt::REMOTE_IRR)) && (lint0 & Bit(Lvt::VECTOR)) == v) {
      lint0 &= ~Bit(Lvt::REMOTE_IRR);
      if (lint0_) DeliverLvt(kLvtLint0, after);
    } else if (!(svr_ & Bit(apic::Svr::NO_EOI_BROADCAST))) {
      after.eoi_vector = vector;
    }
  }
  Update(after);
}

// --- Local sources ---

void LocalApic::DeliverLvt(unsigned index, After& after) {
  uint32_t& lvt = lvt_[index];
  if (!hardware_enabled() || (lvt & Bit(Lvt::MASKED))) return;
  const auto vector = static_cast<uint8_t>(lvt & Bit(Lvt::VECTOR));
  switch (ModeOf(lvt)) {
    case DeliveryMode::kFixed: {
      // The trigger mode counts for LINT0 and LINT1 in fixed mode only; LINT1 is a pulse here.
      const bool level = index == kLvtLint0 && (lvt & Bit(Lvt::LEVEL));
      if (level && (lvt & Bit(Lvt::REMOTE_IRR))) return;
      if (level && vector >= kFirstLegalVector) lvt |= Bit(Lvt::REMOTE_IRR);
      return Accept(vector, level, after);
    }
    case DeliveryMode::kNmi:
      return Raise(kNmi, after);
    case DeliveryMode::kInit:
      return Raise(kInit, after);
    default:
      return;
  }
}

void LocalApic::RaiseError(apic::Esr error, After& after) {
  esr_latch_ |= Bit(error);
  const uint32_t lvt = lvt_[kLvtError];
  if ((lvt & Bit(Lvt::MASKED)) || (lvt & Bit(Lvt::VECTOR)) < kFirstLegalVector) return;
  DeliverLvt(kLvtError, after);
}

void LocalApic::OnTimer() {
  After after;
  {
    std::lock_guard lock(mutex_);
    if (timer_.Expire()) DeliverLvt(kLvtTimer, after);
  }
  Do(after);
}

void LocalApic::SetTscOffset(int64_t offset) {
  After after;
  {
    std::lock_guard lock(mutex_);
    if (timer_.SetTscOffset(offset)) DeliverLvt(kLvtTimer, after);
  }
  Do(after);
}

void LocalApic::PostNmi() {
  After after;
  {
    std::lock_guard lock(mutex_);
    Raise(kNmi, after);
  }
  Do(after);
}

void LocalApic::PulseLint1() {
  After after;
  {
    std::lock_guard lock(mutex_);
    // A disabled APIC leaves the pin to the processor, where it is NMI. [SDM 3A] 10.4.3
    if (hardware_enabled()) {
      DeliverLvt(kLvtLint1, after);
    } else {
      Raise(kNmi, after);
    }
  }
  Do(after);
}

void LocalApic::ExtIntChanged() {
  After after;
  {
    std::lock_guard lock(mutex_);
    SampleLint0(after);
    Update(after);
  }
  Do(after);
}

// Serialized by the mutex, so that the last of two concurrent changes is what stays.
void LocalApic::SampleLint0(After& after) {
  const bool level = id_ == 0 && bus_.pic_.IntrAsserted();
  const bool rose = level && !lint0_;
  lint0_ = level;
  if (rose && !Lint0TakesExtInt()) DeliverLvt(kLvtLint0, after);
}

// With the APIC disabled, LINT0 is the processor's INTR pin. [SDM 3A] 10.4.3
bool LocalApic::Lint0TakesExtInt() const {
  if (!hardware_enabled()) return true;
  const uint32_t lvt = lvt_[kLvtLint0];
  return !(lvt & Bit(Lvt::MASKED)) && ModeOf(lvt) == DeliveryMode::kExtInt;
}

// --- What the bus sees ---

void LocalApic::PublishRouting() {
  uint64_t routing = ldr_;
  if (hardware_enabled()) routing |= uint64_t{1} << 32;
  if (x2apic()) routing |= uint64_t{1} << 33;
  if (software_enabled()) routing |= uint64_t{1} << 34;
  if (dfr_ >> 28 != 0xf) routing |= uint64_t{1} << 35;
  routing_.store(routing, std::memory_order_release);
}

LocalApic::Routing LocalApic::routing() const {
  const uint64_t routing = routing_.load(std::memory_order_acquire);
  return {.enabled = (routing >> 32 & 1) != 0,
          .x2apic = (routing >> 33 & 1) != 0,
          .software_enabled = (routing >> 34 & 1) != 0,
          .cluster = (routing >> 35 & 1) != 0,
          .ldr = static_cast<uint32_t>(routing)};
}

}  // namespace vmm
