// One counter of the 8254, as a function of time.
#pragma once

#include <cstdint>

#include "legacy-devices/pit8254_regs.h"

namespace legacy {

// Times are ticks of the chip's clock, counted by the owner.
struct Pit8254CounterState {
  uint8_t control = 0x30;  // of the control word: RW, M, BCD
  bool gate = true;
  uint16_t CR = 0;            // count register, as written
  bool cr_written = false;    // since the control word
  bool null_count = true;     // CR has not reached the counting element
  bool load_pending = false;  // it will at `start`

  // The counting element: since `start` if it counts, else standing `elapsed` ticks after it.
  bool loaded = false;  // with a count, since the control word
  bool counting = false;
  uint32_t count = 0x10000;
  int64_t start = 0;  // the tick at which it showed `count`: may be the next one
  int64_t elapsed = 0;

  // Modes 2 and 3: a count that was written while another runs, and when it takes over.
  bool next_loaded = false;
  uint32_t next_count = 0x10000;
  int64_t next_at = 0;
  int64_t next_start = 0;

  bool second_byte_written = false;  // the next write is the high byte of kLowHigh
  bool second_byte_read = false;     // the next read is
  uint8_t low_byte = 0;              // written
  bool count_latched = false;
  bool status_latched = false;
  uint16_t latched_count = 0;
  uint8_t latched_status = 0;

  int64_t at = 0;  // up to here rising edges of OUT have been reported
  friend bool operator==(const Pit8254CounterState&, const Pit8254CounterState&) = default;
};

// No lock: the chip has one. Advance() to the present goes before every other call.
class Pit8254Counter {
 public:
  // Returns how often OUT has risen on its own since the last call.
  int64_t Advance(int64_t now);
  // When OUT will rise next; -1: not by itself.
  int64_t NextRise() const;
  // Ticks between rises in modes 2 and 3, else 0.
  int64_t Period() const;
  bool Out() const;

  void SetGate(bool gate);
  void WriteControl(uint8_t control);  // kStoredControl
  void Write(uint8_t value);
  uint8_t Read();
  void LatchCount();
  void LatchStatus();

  const Pit8254CounterState& state() const { return state_; }
  static bool Possible(const Pit8254CounterState& state);
  void Load(const Pit8254CounterState& state) { state_ = state; }

 private:
  unsigned Mode() const;
  pit::Access AccessMode() const { return static_cast<pit::Access>(state_.control >> 4 & 3); }
  bool Bcd() const { return state_.control & 1; }
  bool Periodic() const { return Mode() == 2 || Mode() == 3; }
  bool Triggered() const { return Mode() == 1 || Mode() == 5; }
  int64_t Elapsed() const { return state_.counting ? state_.at - state_.start : state_.elapsed; }
  uint16_t Count() const;
  uint32_t CountOfCr() const;
  void CountWritten(uint16_t value);
  void LoadAtNextTick();
  void TakeNextCount();
  int64_t RisesUntil(int64_t tick) const;  // since `start`
  uint8_t ReadBytes(uint16_t value, bool& done);

  Pit8254CounterState state_;
};

}  // namespace legacy
