// Where the guest's general registers are while translated code runs.
//
// Twelve of them stay in the host's register of the same name. RSP is the host's own stack, so the
// guest's is in R9; R10 and R11 are the translator's. The guest's R9, R10 and R11 live in memory. A
// translation that names them has them in the host's of the same number, where that is not needed,
// reads them where they live, or borrows registers that it does not use (block_registers.cc).
#pragma once

#include <array>
#include <cstdint>

namespace bt {

inline constexpr uint8_t kGuestRsp = 4, kHostOfRsp = 9, kTemp0 = 10, kTemp1 = 11;
inline constexpr uint16_t kHomeless = 1 << 9 | 1 << 10 | 1 << 11;
// Guest registers that have the host's of the same number.
inline constexpr uint16_t kAtHome = 0xffff & ~kHomeless & ~(1 << kGuestRsp);

// Of which guest register the host's `host` holds the value, and which slot has it meanwhile when
// it is borrowed.
constexpr uint8_t SlotOf(uint8_t host) {
  return host == kHostOfRsp ? kGuestRsp : host;
}

constexpr std::array<uint8_t, 16> HostRegisters() {
  std::array<uint8_t, 16> map{};
  for (uint8_t i = 0; i < 16; ++i) map[i] = i;
  map[kGuestRsp] = kHostOfRsp;
  return map;
}

}  // namespace bt
