// Guest memory as a processor's linear addresses name it, seen from outside: nothing that the guest
// could notice happens, no accessed bit is set and nothing faults.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>

#include "vmm/core/memory/guest_memory.h"
#include "vmm/core/state/cpu_state.h"

namespace vmm {

// Where the page tables of `state` lead; nothing where they lead nowhere. Rights are not looked at.
// The result need not be RAM. [SDM 3A] 4
std::optional<GuestPhys> TranslateLinear(const CpuState& state, const GuestMemory& memory,
                                         GuestVirt address);

// Copies out of RAM; returns how many bytes could be had before the first that could not.
size_t ReadLinear(const CpuState& state, const GuestMemory& memory, GuestVirt address,
                  std::span<uint8_t> out);

// Copies into RAM whatever the guest's rights are; all of it, or nothing and false. `written` is
// told each piece, so that decoded code there can be dropped.
bool WriteLinear(const CpuState& state, const GuestMemory& memory, GuestVirt address,
                 std::span<const uint8_t> in,
                 const std::function<void(GuestPhys, uint64_t length)>& written);

}  // namespace vmm
