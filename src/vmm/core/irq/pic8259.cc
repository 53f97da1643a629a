#include "vmm/core/irq/pic8259.h"

#include "vmm/core/base/check.h"

namespace vmm {

using namespace pic8259;

namespace {
constexpr uint8_t kBiosMasterVector = 0x08;  // [PC-AT] BIOS
constexpr uint8_t kBiosSlaveVector = 0x70;
constexpr unsigned kSpuriousPin = 7;
}  // namespace

Pic8259Pair::Pic8259Pair(ExtIntListener& listener)
    : master_port_("pic0", *this, &Pic8259Pair::ReadPort<0>, &Pic8259Pair::WritePort<0>),
      slave_port_("pic1", *this, &Pic8259Pair::ReadPort<1>, &Pic8259Pair::WritePort<1>),
      elcr_port_("elcr", *this, &Pic8259Pair::ReadElcr, &Pic8259Pair::WriteElcr),
      listener_(listener),
      chips_{Pic8259Chip(1u << kCascadePin, kElcrMasterMask, kBiosMasterVector),
             Pic8259Chip(0, kElcrSlaveMask, kBiosSlaveVector)} {}

bool Pic8259Pair::Settle() {
  chips_[0].SetCascade(chips_[1].Request() >= 0);
  const int pin = chips_[0].Request();
  if (pin >= 0) asked_for_slave_ = pin == static_cast<int>(kCascadePin);
  return intr_.exchange(pin >= 0, std::memory_order_acq_rel) != (pin >= 0);
}

void Pic8259Pair::Set(unsigned pin, bool level) {
  CHECK(pin < kPins && pin != kCascadePin);
  bool changed;
  {
    std::lock_guard lock(mutex_);
    chips_[pin / 8].Set(pin % 8, level);
    changed = Settle();
  }
  Tell(changed);
}

uint8_t Pic8259Pair::AcknowledgeInterrupt() {
  uint8_t vector;
  bool changed;
  {
    std::lock_guard lock(mutex_);
    int pin = chips_[0].Request();
    if (pin < 0 && asked_for_slave_) pin = kCascadePin;
    if (pin == static_cast<int>(kCascadePin)) {
      const int slave_pin = chips_[1].Request();
      if (slave_pin >= 0) chips_[1].Acknowledge(static_cast<unsigned>(slave_pin));
      vector = chips_[1].Vector(slave_pin >= 0 ? static_cast<unsigned>(slave_pin) : kSpuriousPin);
    } else {
      vector = chips_[0].Vector(pin >= 0 ? static_cast<unsigned>(pin) : kSpuriousPin);
    }
    if (pin >= 0) chips_[0].Acknowledge(static_cast<unsigned>(pin));
    asked_for_slave_ = false;
    changed = Settle();
  }
  Tell(changed);
  return vector;
}

template <unsigned kChip>
void Pic8259Pair::ReadPort(uint64_t offset, std::span<uint8_t> data) {
  bool changed;
  {
    std::lock_guard lock(mutex_);
    for (size_t i = 0; i < data.size(); ++i) data[i] = chips_[kChip].Read((offset + i) & 1);
    changed = Settle();
  }
  Tell(changed);
}

template <unsigned kChip>
void Pic8259Pair::WritePort(uint64_t offset, std::span<const uint8_t> data) {
  bool changed;
  {
    std::lock_guard lock(mutex_);
    for (size_t i = 0; i < data.size(); ++i) chips_[kChip].Write((offset + i) & 1, data[i]);
    changed = Settle();
  }
  Tell(changed);
}

void Pic8259Pair::ReadElcr(uint64_t offset, std::span<uint8_t> data) {
  std::lock_guard lock(mutex_);
  for (size_t i = 0; i < data.size(); ++i) data[i] = chips_[(offset + i) & 1].elcr();
}

void Pic8259Pair::WriteElcr(uint64_t offset, std::span<const uint8_t> data) {
  bool changed;
  {
    std::lock_guard lock(mutex_);
    for (size_t i = 0; i < data.size(); ++i) chips_[(offset + i) & 1].set_elcr(data[i]);
    changed = Settle();
  }
  Tell(changed);
}

void Pic8259Pair::Reset() {
  bool changed;
  {
    std::lock_guard lock(mutex_);
    for (Pic8259Chip& chip : chips_) chip.Reset();
    asked_for_slave_ = false;
    changed = Settle();
  }
  Tell(changed);
}

Pic8259PairState Pic8259Pair::Save() const {
  std::lock_guard lock(mutex_);
  return {.chips = {chips_[0].state(), chips_[1].state()}};
}

Result<void> Pic8259Pair::Load(const Pic8259PairState& state) {
  {
    std::lock_guard lock(mutex_);
    if (state.version != Pic8259PairState::kVersion || !chips_[0].CanLoad(state.chips[0]) ||
        !chips_[1].CanLoad(state.chips[1])) {
      return Fail(ExitCode::kConfigInvalid, "pic: the saved state is not one of two 8259As");
    }
    for (unsigned i = 0; i < 2; ++i) chips_[i].Load(state.chips[i]);
    asked_for_slave_ = false;
    Settle();
  }
  Tell(true);
  return {};
}

}  // namespace vmm
