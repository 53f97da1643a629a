// Where the guest's general registers are while translated code runs.
//
// Twelve of them stay in the host's register of the same name. RSP is the host's own stack, so the
// guest's is in R9; R10 and R11 are the translator's. The guest's R9, R10 and R11 live in memory. A
// translation that names them has them in the host's of the same number, where that is not needed,
// reads them where they live, or borrows registers that it does not use (block_registers.cc).
//
// Direct code has no stack of its own: there the guest's RSP is the host's, and R9 is at home.
#pragma once

#include <array>
#include <cstdint>

namespace bt {

inline constexpr uint8_t kGuestRsp = 4, kTemp0 = 10, kTemp1 = 11;

class HostRegisters {
 public:
  explicit constexpr HostRegisters(bool direct)
      : rsp(direct ? kGuestRsp : 9),
        homeless(1 << kTemp0 | 1 << kTemp1 | (direct ? 0 : 1 << rsp)),
        at_home(0xffff & ~homeless & ~(1 << kGuestRsp)) {}

  // The host's that holds the guest's RSP.
  uint8_t rsp;
  // Guest registers that live in memory, and those that have the host's of the same number.
  uint16_t homeless, at_home;

  // Of which guest register the host's `host` holds the value, and which slot has it meanwhile when
  // it is borrowed.
  constexpr uint8_t SlotOf(uint8_t host) const { return host == rsp ? kGuestRsp : host; }
  // By guest register.
  constexpr std::array<uint8_t, 16> Map() const {
    std::array<uint8_t, 16> map{};
    for (uint8_t i = 0; i < 16; ++i) map[i] = i;
    map[kGuestRsp] = rsp;
    return map;
  }
};

}  // namespace bt
