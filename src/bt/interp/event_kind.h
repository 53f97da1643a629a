// Exceptions and interrupts, and the ways in which they reach the guest.
#pragma once

#include <cstdint>

namespace bt {

struct Fault {
  bool active = false;
  uint8_t vector = 0;
  bool has_error = false;
  uint32_t error = 0;
  bool in_new_task = false;  // a task switch was done: RIP is the new task's, not the instruction's
};

// How an event reaches the guest through the IDT.
// kSoftTrap: INT3 and INTO, which V86 mode lets through.
enum class EventKind : uint8_t { kFault, kTrap, kIntN, kSoftTrap, kExternal };
constexpr bool IsSoftware(EventKind kind) {
  return kind == EventKind::kIntN || kind == EventKind::kSoftTrap;
}

enum class TaskSwitch : uint8_t { kJump, kCall, kEvent, kReturn };

}  // namespace bt
