// kvmclock for engines without KVM: the paravirtual clock that a guest asks for through MSRs and
// reads from its own memory. [KVM-MSR] Documentation/virt/kvm/x86/msr.rst
#pragma once

#include <cstdint>

#include "vmm/core/memory/guest_memory.h"
#include "vmm/core/time/clock.h"

namespace vmm {

// Of one vCPU; used on its thread. The guest's TSC must be Clock::Tsc() plus a constant offset,
// which Update() is told of.
class PvClock {
 public:
  static constexpr uint32_t kMsrWallClock = 0x4b564d00, kMsrSystemTime = 0x4b564d01;
  static constexpr uint32_t kMsrWallClockOld = 0x11, kMsrSystemTimeOld = 0x12;

  PvClock(const Clock& clock, GuestMemory& memory) : clock_(clock), memory_(memory) {}

  // False: not one of ours, or (writes) an address that is not RAM or not a multiple of 4: #GP. The
  // structures are written before WriteMsr returns.
  bool ReadMsr(uint32_t index, uint64_t* value) const;
  bool WriteMsr(uint32_t index, uint64_t value);

  // Both values of a saved state. The guest has its wall clock in RAM already: only the time is
  // written anew. Values that name no RAM write nothing.
  void Restore(uint64_t wall_clock, uint64_t system_time);
  uint64_t wall_clock() const { return wall_clock_; }
  uint64_t system_time() const { return system_time_; }

  // The guest changed its TSC: guest TSC = Clock::Tsc() + offset from now on. Writes the time anew.
  void SetTscOffset(uint64_t offset);
  // Writes the time anew: after a pause, a move or a load.
  void Update();

 private:
  uint8_t* Target(uint64_t address, uint64_t size) const;
  void WriteWallClock();

  const Clock& clock_;
  GuestMemory& memory_;
  uint64_t wall_clock_ = 0, system_time_ = 0, tsc_offset_ = 0;
};

}  // namespace vmm
