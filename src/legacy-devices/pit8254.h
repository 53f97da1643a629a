// The interval timer of a PC: three counters of an 8254, and system control port B, which gates and
// shows counter 2. [8254], [PIIX3] NSC
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>

#include "legacy-devices/pit8254_counter.h"
#include "legacy-devices/pit8254_regs.h"
#include "vmm/core/base/bit_register.h"
#include "vmm/core/base/result.h"
#include "vmm/core/bus/device_part.h"
#include "vmm/core/irq/irq_line.h"
#include "vmm/core/time/clock.h"

namespace legacy {

struct Pit8254State {
  static constexpr uint32_t kVersion = 1;
  uint32_t version = kVersion;
  int64_t ticks = 0;  // of the chip's clock, at the moment of saving
  std::array<Pit8254CounterState, 3> counters;
  vmm::BitRegister<pit::PortB> port_b;  // what the guest has written
  int64_t owed = 0;                     // interrupts that the host was too late for
  friend bool operator==(const Pit8254State&, const Pit8254State&) = default;
};

// OUT of counter 0 is the interrupt line; each rise of OUT is an edge on it.
//
// Catching up: a host that was busy owes the guest the edges it missed, since a guest may count its
// time by them. They follow at twice the rate that the guest has set, up to a second's worth; what
// is older is lost, as is what was owed when the guest sets the counter anew. However fast the
// counter is set, edges come at least kMinInterval apart.
//
// After reset no counter counts; a BIOS would have set them up.
//
// Threads: everything from any thread.
class Pit8254 final {
 public:
  static constexpr vmm::Nanoseconds kMinInterval{50'000};
  static constexpr vmm::Nanoseconds kLongestBacklog{1'000'000'000};

  Pit8254(vmm::IrqLine& irq, const vmm::Clock& clock, vmm::TimerService& timers);

  vmm::Device& counters() { return counter_ports_; }  // pit::kSize ports at pit::kPort
  vmm::Device& port_b() { return port_b_; }           // one port at pit::kPortBPort

  // What the speaker's cone does is nobody's business yet; this is what drives it.
  bool SpeakerOn() const;

  void Reset();
  Pit8254State Save() const;
  vmm::Result<void> Load(const Pit8254State& state);

 private:
  void ReadCounters(uint64_t offset, std::span<uint8_t> data);
  void WriteCounters(uint64_t offset, std::span<const uint8_t> data);
  void ReadPortB(uint64_t offset, std::span<uint8_t> data);
  void WritePortB(uint64_t offset, std::span<const uint8_t> data);

  // With the lock held.
  void WriteControl(uint8_t value);
  void Reprogrammed();  // counter 0 was: the wire follows OUT, nothing is owed
  void Advance();       // to the present
  void Settle();        // interrupts what is due and sets the timer for the next
  void Pulse(vmm::Nanoseconds now);
  void Arm(std::optional<vmm::Nanoseconds> deadline);
  int64_t Ticks() const;
  vmm::Nanoseconds TimeOfTick(int64_t tick) const;  // not before that tick
  void OnTimer();

  vmm::DevicePart<Pit8254> counter_ports_;
  vmm::DevicePart<Pit8254> port_b_;
  vmm::IrqLine& irq_;
  const vmm::Clock& clock_;

  mutable std::mutex mutex_;  // guards all below
  std::array<Pit8254Counter, 3> counters_;
  vmm::BitRegister<pit::PortB> port_b_written_;
  int64_t owed_ = 0;
  vmm::Nanoseconds not_before_{};          // the next edge
  int64_t tick_offset_ = 0;                // added to the clock's ticks
  std::optional<vmm::Nanoseconds> armed_;  // what timer_ is set to
  std::unique_ptr<vmm::Timer> timer_;      // last: its destructor waits for the callback
};

}  // namespace legacy
