// Two machines, compared by their device trees.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace vmm {

// What differs between `saved`, which may be any bytes, and `here`, which BuildDeviceTree() made:
// the first few differences in words, empty if there is none. The machine's name is none.
std::string DescribeDifference(std::span<const uint8_t> saved, std::span<const uint8_t> here);

}  // namespace vmm
