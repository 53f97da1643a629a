// Registers of the HPET: byte offsets and bits. [HPET] 2.3
#pragma once

#include <cstdint>

namespace legacy::hpet {

inline constexpr uint64_t kBase = 0xFED00000;
inline constexpr uint64_t kSize = 0x400;
inline constexpr unsigned kTimers = 3;

// 100 MHz: a tick is 10 ns, so that times and counts turn into each other exactly.
inline constexpr int64_t kTickNs = 10;
inline constexpr uint64_t kTickFs = 10'000'000;

enum class Reg : uint16_t {
  GCAP_ID = 0x000,
  GEN_CONF = 0x010,
  GINTR_STA = 0x020,
  MAIN_CNT = 0x0F0,
  TIMERS = 0x100,  // kTimerSize each
};
inline constexpr uint64_t kTimerSize = 0x20;
enum class TimerReg : uint16_t { CONF = 0x00, COMP = 0x08, FSB_IRR = 0x10 };

// [HPET] 2.3.4: revision 1, three timers, a 64-bit counter, legacy routes.
inline constexpr uint32_t kCapabilities =
    0x8086u << 16 | 1u << 15 | 1u << 13 | (kTimers - 1) << 8 | 0x01;

enum class GEN_CONF : uint64_t {
  ENABLE_CNF = 1u << 0,  // the counter runs, and timers interrupt
  LEG_RT_CNF = 1u << 1,  // timers 0 and 1 take the wires of the 8254 and the RTC
};
inline constexpr uint64_t kGenConfMask = 0x3;

// [HPET] 2.3.8
enum class CONF : uint64_t {
  INT_TYPE_CNF = 1u << 1,  // level, else edge
  INT_ENB_CNF = 1u << 2,
  TYPE_CNF = 1u << 3,      // periodic
  PER_INT_CAP = 1u << 4,   // read only
  SIZE_CAP = 1u << 5,      // read only: 64 bits
  VAL_SET_CNF = 1u << 6,   // the next write of COMP sets a periodic timer's comparator, too
  MODE32_CNF = 1u << 8,    // Tn_32MODE_CNF
  INT_ROUTE_CNF = 0x3E00,  // the IOAPIC pin, where LEG_RT_CNF does not say otherwise
};
inline constexpr unsigned kRouteShift = 9;
inline constexpr uint64_t kConfMask = 0x3F4E;  // what a guest can write

// The pins that every timer can be routed to: 20 to 23, as on [ICH9].
inline constexpr unsigned kFirstRoute = 20;
inline constexpr unsigned kRoutes = 4;
inline constexpr uint64_t kConfCapabilities =  // Tn_INT_ROUTE_CAP and the read-only bits
    uint64_t{0x00F00000} << 32 | uint64_t{0x30};

}  // namespace legacy::hpet
