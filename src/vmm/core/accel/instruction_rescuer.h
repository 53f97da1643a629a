// How an engine has an instruction finished that it can't execute itself: KVM, whose emulator knows
// few instructions on memory that is not RAM, and fewer still on a host without nested paging.
#pragma once

#include <cstdint>

#include "vmm/core/base/result.h"
#include "vmm/core/state/cpu_state.h"

namespace vmm {

enum class Rescue : uint8_t {
  kDone,      // the state is that after the instruction, or before the handler of its exception
  kShutdown,  // the exception could not be delivered: triple fault
};

// Threads: from each vCPU's own thread, several at a time.
class InstructionRescuer {
 public:
  virtual ~InstructionRescuer() = default;
  // Goes on from `state` of CPU `cpu`: delivers what is pending there, else executes one
  // instruction, in the machine's memory and on its buses. The local APIC, timers and clocks in
  // `state` are looked at and left as they are. kEngineFailed: this instruction can't be rescued.
  virtual Result<Rescue> Finish(unsigned cpu, CpuState& state) = 0;
};

}  // namespace vmm
