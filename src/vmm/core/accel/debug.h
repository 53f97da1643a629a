// What a debugger outside the guest asks of an engine, and what it hears back.
#pragma once

#include <cstdint>

#include "vmm/core/base/types.h"

namespace vmm {

// A place at which every vCPU shall stop. Addresses are linear, of whatever address space is
// current when they are met.
struct DebugPoint {
  enum class Kind : uint8_t {
    // Before the instruction at `address`. An engine may put an instruction of its own there, which
    // the guest can see; kHardware never changes guest memory.
    kSoftware,
    kHardware,
    // After an instruction that wrote, read, or did either to [address, address+length).
    kWrite,
    kRead,
    kAccess,
  };
  Kind kind = Kind::kSoftware;
  GuestVirt address;
  uint64_t length = 1;  // bytes, of data

  constexpr bool is_data() const { return kind >= Kind::kWrite; }
  friend bool operator==(const DebugPoint&, const DebugPoint&) = default;
};

// How Run() goes on.
enum class DebugStep : uint8_t {
  kOff,        // until something else ends it
  kOne,        // one instruction, then RunExit::kDebug; interrupts wait unless the CPU is halted
  kOneOrEvent  // the same, but an interrupt may be taken instead: it stops before its handler
};

// Why Run() returned kDebug.
struct DebugStop {
  enum class Reason : uint8_t {
    kStep,   // the step that was asked for is done
    kPoint,  // `point` was met; of instructions: the next Run() passes it
  };
  Reason reason = Reason::kStep;
  DebugPoint point;

  friend bool operator==(const DebugStop&, const DebugStop&) = default;
};

}  // namespace vmm
