// Instructions that change nothing, to stand before and after the one that is tested: so that a
// translator finds the flags at different places, and other registers in use.
#pragma once

#include <cstdint>
#include <vector>

#include "random.h"

namespace difftest {

// None to four, of 64-bit code; at most kMaxNeighbours bytes. They name any general or XMM
// register and read and write the flags, and leave each as it is.
inline constexpr unsigned kMaxNeighbours = 64;
std::vector<uint8_t> Neighbours(Random& random);

}  // namespace difftest
