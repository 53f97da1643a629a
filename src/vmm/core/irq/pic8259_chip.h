// One 8259A interrupt controller. [8259A]
#pragma once

#include <cstdint>

#include "vmm/core/base/bit_register.h"
#include "vmm/core/irq/pic8259_regs.h"

namespace vmm {

struct Pic8259ChipState {
  // Which initialization word the odd port waits for.
  enum class Expects : uint8_t { kNone, kIcw2, kIcw3, kIcw4 };

  uint8_t lines = 0;  // the IR pins
  uint8_t IRR = 0;
  uint8_t ISR = 0;
  uint8_t IMR = 0xFF;
  uint8_t ELCR = 0;  // 1 = level triggered
  uint8_t ICW2 = 0;
  uint8_t ICW3 = 0;
  BitRegister<pic8259::ICW4> ICW4;
  uint8_t highest = 0;  // the pin with the highest priority now
  Expects expects = Expects::kNone;
  bool icw3_follows = false, icw4_follows = false;
  bool read_isr = false;  // what the even port shows
  bool poll = false;      // the next read is a poll
  bool special_mask = false;
  bool rotate_on_aeoi = false;
  friend bool operator==(const Pic8259ChipState&, const Pic8259ChipState&) = default;
};

// No lock: its pair has one. A request stays latched when an edge-triggered pin falls again, so
// that a pulse is enough.
class Pic8259Chip {
 public:
  // `cascade`: pins at which a slave is. `elcr_mask`: pins that may be level triggered.
  // `bios_vector`: ICW2 as a BIOS sets it, for guests that start without one.
  Pic8259Chip(uint8_t cascade, uint8_t elcr_mask, uint8_t bios_vector)
      : cascade_(cascade), elcr_mask_(elcr_mask), bios_vector_(bios_vector) {
    Reset();
  }

  void Reset();  // every pin masked; the pins themselves stay what they are
  void Set(unsigned pin, bool level);
  // The slave's INT, which the chip follows as a level: its request vanishes with it.
  void SetCascade(bool level);

  // The pin that INT stands for, -1 if none.
  int Request() const;
  // INTA: the request of `pin`, which was Request(), goes into service.
  void Acknowledge(unsigned pin);
  uint8_t Vector(unsigned pin) const { return static_cast<uint8_t>(state_.ICW2 | pin); }

  uint8_t Read(bool odd);
  void Write(bool odd, uint8_t value);
  uint8_t elcr() const { return state_.ELCR; }
  void set_elcr(uint8_t value);

  const Pic8259ChipState& state() const { return state_; }
  bool CanLoad(const Pic8259ChipState& state) const;
  void Load(const Pic8259ChipState& state) { state_ = state; }

 private:
  void WriteIcw1(uint8_t value);
  void WriteIcw(uint8_t value);
  void WriteOcw2(uint8_t value);
  void WriteOcw3(uint8_t value);
  int HighestOf(uint8_t pins) const;  // -1 if none
  int HighestInService() const;

  const uint8_t cascade_, elcr_mask_, bios_vector_;
  Pic8259ChipState state_;
};

}  // namespace vmm
