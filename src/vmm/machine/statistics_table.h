// What `vmm run --stats` prints: the figures of an engine, a column for each of its vCPUs.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "vmm/core/accel/statistic.h"

namespace vmm {

// A line of title, then one a figure: its name, two or more blanks before each value, the last of
// which is that of all vCPUs together (the only one where there is one vCPU). Counts are whole
// numbers, ratios have three decimals. Empty without figures.
std::string StatisticsTable(std::string_view engine, std::span<const Statistics> vcpus);

}  // namespace vmm
