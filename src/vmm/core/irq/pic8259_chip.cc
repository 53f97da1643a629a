#include "vmm/core/irq/pic8259_chip.h"

namespace vmm {

using namespace pic8259;

namespace {
constexpr uint8_t PinBit(unsigned pin) {
  return static_cast<uint8_t>(1u << pin);
}
}  // namespace

void Pic8259Chip::Reset() {
  const uint8_t lines = state_.lines;
  state_ = {};
  state_.lines = lines;
  state_.ICW2 = bios_vector_;
  state_.ICW4.Set(ICW4::uPM);
}

void Pic8259Chip::Set(unsigned pin, bool level) {
  const uint8_t bit = PinBit(pin);
  const bool was = state_.lines & bit;
  if (level == was) return;
  state_.lines = static_cast<uint8_t>(state_.lines ^ bit);
  if (level) {
    state_.IRR |= bit;
  } else if (state_.ELCR & bit) {
    state_.IRR &= static_cast<uint8_t>(~bit);
  }
}

void Pic8259Chip::SetCascade(bool level) {
  state_.lines = static_cast<uint8_t>(level ? state_.lines | cascade_ : state_.lines & ~cascade_);
  state_.IRR = static_cast<uint8_t>(level ? state_.IRR | cascade_ : state_.IRR & ~cascade_);
}

// Priorities go round from `highest`. [8259A] "Automatic rotation", "Specific rotation"
int Pic8259Chip::HighestOf(uint8_t pins) const {
  for (unsigned i = 0; i < 8; ++i) {
    const unsigned pin = (state_.highest + i) & 7;
    if (pins & PinBit(pin)) return static_cast<int>(pin);
  }
  return -1;
}

// In special mask mode a masked level holds nobody back. [8259A] "Special mask mode"
int Pic8259Chip::HighestInService() const {
  return HighestOf(state_.special_mask ? static_cast<uint8_t>(state_.ISR & ~state_.IMR)
                                       : state_.ISR);
}

int Pic8259Chip::Request() const {
  if (state_.expects != Pic8259ChipState::Expects::kNone) return -1;
  const int requested = HighestOf(static_cast<uint8_t>(state_.IRR & ~state_.IMR));
  if (requested < 0) return -1;
  uint8_t in_service = state_.ISR;
  if (state_.special_mask) in_service &= static_cast<uint8_t>(~state_.IMR);
  // A slave in service may interrupt itself: it has priorities of its own.
  // [8259A] "The special fully nested mode"
  if (state_.ICW4.Has(ICW4::SFNM)) in_service &= static_cast<uint8_t>(~cascade_);
  const int current = HighestOf(in_service);
  if (current < 0) return requested;
  const auto rank = [&](int pin) { return (pin - state_.highest) & 7; };
  return rank(requested) < rank(current) ? requested : -1;
}

void Pic8259Chip::Acknowledge(unsigned pin) {
  const uint8_t bit = PinBit(pin);
  if (state_.ICW4.Has(ICW4::AEOI)) {
    if (state_.rotate_on_aeoi) state_.highest = (pin + 1) & 7;
  } else {
    state_.ISR |= bit;
  }
  if (!(state_.ELCR & bit)) state_.IRR &= static_cast<uint8_t>(~bit);
}

uint8_t Pic8259Chip::Read(bool odd) {
  if (state_.poll) {
    // The read is the INTA. [8259A] "Poll command"
    state_.poll = false;
    const int pin = Request();
    if (pin < 0) return 0;
    Acknowledge(static_cast<unsigned>(pin));
    return static_cast<uint8_t>(kPollInterrupt | pin);
  }
  if (odd) return state_.IMR;
  return state_.read_isr ? state_.ISR : state_.IRR;
}

void Pic8259Chip::Write(bool odd, uint8_t value) {
  if (odd) {
    if (state_.expects != Pic8259ChipState::Expects::kNone) return WriteIcw(value);
    state_.IMR = value;
  } else if (BitRegister<ICW1>(value).Has(ICW1::INIT)) {
    WriteIcw1(value);
  } else if (BitRegister<OCW3>(value).Has(OCW3::SELECT)) {
    WriteOcw3(value);
  } else {
    WriteOcw2(value);
  }
}

// [8259A] "Initialization command words 1 and 2". What was in service is forgotten as well.
void Pic8259Chip::WriteIcw1(uint8_t value) {
  const BitRegister<ICW1> icw1(value);
  Pic8259ChipState fresh;
  fresh.lines = state_.lines;
  fresh.ELCR = state_.ELCR;
  // An edge-triggered pin must rise again.
  fresh.IRR = static_cast<uint8_t>(state_.lines & (state_.ELCR | cascade_));
  fresh.IMR = 0;
  fresh.ICW2 = state_.ICW2;
  fresh.ICW3 = state_.ICW3;
  fresh.icw3_follows = !icw1.Has(ICW1::SNGL);
  fresh.icw4_follows = icw1.Has(ICW1::IC4);
  if (fresh.icw4_follows) fresh.ICW4 = state_.ICW4;
  fresh.expects = Pic8259ChipState::Expects::kIcw2;
  state_ = fresh;
}

void Pic8259Chip::WriteIcw(uint8_t value) {
  using Expects = Pic8259ChipState::Expects;
  const Expects after_icw3 = state_.icw4_follows ? Expects::kIcw4 : Expects::kNone;
  switch (state_.expects) {
    case Expects::kIcw2:
      state_.ICW2 = value & kIcw2Vector;
      state_.expects = state_.icw3_follows ? Expects::kIcw3 : after_icw3;
      return;
    case Expects::kIcw3:
      state_.ICW3 = value;  // the wiring is what it is
      state_.expects = after_icw3;
      return;
    case Expects::kIcw4:
      state_.ICW4 = BitRegister<ICW4>(value & 0x1F);
      state_.expects = Expects::kNone;
      return;
    case Expects::kNone:
      return;
  }
}

// [8259A] "Operation control word 2"
void Pic8259Chip::WriteOcw2(uint8_t value) {
  const BitRegister<OCW2> ocw2(value);
  const bool rotate = ocw2.Has(OCW2::R), specific = ocw2.Has(OCW2::SL);
  if (!ocw2.Has(OCW2::EOI)) {
    if (!specific) {
      state_.rotate_on_aeoi = rotate;
    } else if (rotate) {
      state_.highest = static_cast<uint8_t>((value + 1) & kOcw2Level);
    }
    return;
  }
  const int pin = specific ? value & kOcw2Level : HighestInService();
  if (pin < 0) return;
  state_.ISR &= static_cast<uint8_t>(~PinBit(static_cast<unsigned>(pin)));
  if (rotate) state_.highest = static_cast<uint8_t>((pin + 1) & 7);
}

// [8259A] "Operation control word 3"
void Pic8259Chip::WriteOcw3(uint8_t value) {
  const BitRegister<OCW3> ocw3(value);
  if (ocw3.Has(OCW3::ESMM)) state_.special_mask = ocw3.Has(OCW3::SMM);
  if (ocw3.Has(OCW3::P)) {
    state_.poll = true;  // goes before a register read command
  } else if (ocw3.Has(OCW3::RR)) {
    state_.read_isr = ocw3.Has(OCW3::RIS);
  }
}

// A pin that becomes level triggered requests what it shows; one that becomes edge triggered keeps
// its request until it is served.
void Pic8259Chip::set_elcr(uint8_t value) {
  const auto now_level = static_cast<uint8_t>(value & elcr_mask_ & ~state_.ELCR);
  state_.ELCR = value & elcr_mask_;
  state_.IRR = static_cast<uint8_t>((state_.IRR & ~now_level) | (state_.lines & now_level));
}

bool Pic8259Chip::CanLoad(const Pic8259ChipState& s) const {
  const auto level_pins = static_cast<uint8_t>(s.ELCR | cascade_);
  return (s.ELCR & ~elcr_mask_) == 0 && (s.ICW2 & ~kIcw2Vector) == 0 && s.ICW4.IsWithin(0x1F) &&
         s.highest < 8 && s.expects <= Pic8259ChipState::Expects::kIcw4 &&
         ((s.IRR ^ s.lines) & level_pins) == 0;
}

}  // namespace vmm
