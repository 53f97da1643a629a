// The tiny guest that measures a KVM: 64-bit code with paging and interrupts, a few dozen
// instructions in several stages, each entered by the host at its own address.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "kvm/kvm_uapi.h"

namespace vmm::probe {

// A stage ends with a byte written to kDonePort: 1 = it worked. Any exception writes to kFaultPort.
enum class Stage : uint8_t { kLoop, kHalt, kCmpxchg16b, kInt3, kXrstor };
inline constexpr unsigned kStages = 5;

// The loop: read a count (4 bytes) from kCountPort, count down to zero, write to kDonePort, again.
inline constexpr uint16_t kCountPort = 0xe0, kDonePort = 0xe4, kFaultPort = 0xe8;

// What the guest needs of RAM, from guest-physical 0 on.
inline constexpr uint64_t kGuestSize = 64 * 1024;

// What a kernel can't do when this stage fails: "hlt", "cmpxchg16b" ...
std::string_view Name(Stage stage);

// Fills `memory` (kGuestSize bytes) with page tables, descriptor tables and code.
void BuildGuest(std::span<uint8_t> memory);

uint64_t Entry(Stage stage);

// The processor at the start of a stage; `sregs` come from the fresh vCPU.
void EnterLongMode(kvm_sregs& sregs, bool xsave);
kvm_regs StageRegs(Stage stage);

// The loop of the guest, run natively.
void NativeLoop(uint64_t iterations);

}  // namespace vmm::probe
