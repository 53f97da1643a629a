// The seam between an engine that counts instructions and a machine whose time is that count: vCPUs
// take turns, and everything that reaches the guest from outside does so between two turns.
#pragma once

#include <cstdint>

namespace vmm {

// A vCPU that takes turns. Called by the schedule, on the thread that has the turn.
class CountedVcpu {
 public:
  virtual ~CountedVcpu() = default;
  // Instructions completed since it was made. The one under way is not counted, nor is one that
  // faulted; a repeated string instruction counts once, when it is done.
  virtual uint64_t Retired() const = 0;
  // Something waits that may wake it: an interrupt, NMI, INIT, SIPI.
  virtual bool HasEvents() const = 0;
  // Its turn ends after the instruction under way, if it has the turn.
  virtual void ShortenTurn() = 0;
};

class InstructionSchedule {
 public:
  virtual ~InstructionSchedule() = default;
  // Before the vCPU first runs. It leaves by null before it is destroyed.
  virtual void SetVcpu(unsigned cpu, CountedVcpu* vcpu) = 0;
  // On the vCPU's thread: waits until it is `cpu`'s turn and returns how many instructions it may
  // complete before EndTurn(). 0: Interrupt() was called; it has no turn then and calls no EndTurn.
  virtual uint64_t BeginTurn(unsigned cpu) = 0;
  // Asleep: halted, or waiting for SIPI, with nothing that would wake it. A vCPU that leaves early
  // and is awake keeps what is left of its turn.
  virtual void EndTurn(unsigned cpu, bool asleep) = 0;
  // Any thread: the BeginTurn() under way, or else the next one, returns 0.
  virtual void Interrupt(unsigned cpu) = 0;
};

}  // namespace vmm
