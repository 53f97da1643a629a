// Address kinds and small units as types, so that a guest-physical address is never mistaken for a
// guest-virtual one, nor a port for an offset.
#pragma once

#include <compare>
#include <cstdint>

namespace vmm {

// A 64-bit number with a meaning. `Tag` makes each kind a type of its own.
template <class Tag, class Rep>
struct Strong {
  Rep value{};
  constexpr Strong() = default;
  constexpr explicit Strong(Rep v) : value(v) {}
  friend constexpr auto operator<=>(Strong, Strong) = default;
  friend constexpr Strong operator+(Strong a, Rep n) {
    return Strong(static_cast<Rep>(a.value + n));
  }
  friend constexpr Rep operator-(Strong a, Strong b) { return static_cast<Rep>(a.value - b.value); }
};

using GuestPhys = Strong<struct GuestPhysTag, uint64_t>;  // guest-physical byte address
using GuestVirt = Strong<struct GuestVirtTag, uint64_t>;  // guest-linear byte address
using Port = Strong<struct PortTag, uint16_t>;            // x86 I/O port
using Gsi = Strong<struct GsiTag, uint32_t>;  // global system interrupt (0-15 = ISA IRQ)

inline constexpr uint64_t kKiB = 1024;
inline constexpr uint64_t kMiB = 1024 * kKiB;
inline constexpr uint64_t kGiB = 1024 * kMiB;
inline constexpr uint64_t kPageSize = 4096;

}  // namespace vmm
