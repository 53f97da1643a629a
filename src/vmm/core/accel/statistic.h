// Figures that tell how an engine spent a run: `vmm run --stats`. The machine knows none of them by
// name; docs/statistics.md lists them.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace vmm {

struct Statistic {
  std::string_view name;  // of static storage
  uint64_t count = 0;
  // A ratio if `scale` is not 0: count * scale / per, and 0 where there is nothing to relate to.
  // Several vCPUs together have the ratio of their sums.
  uint64_t per = 0;
  uint32_t scale = 0;

  double value() const {
    if (scale == 0) return static_cast<double>(count);
    return per == 0 ? 0 : static_cast<double>(count) * scale / static_cast<double>(per);
  }
};

using Statistics = std::vector<Statistic>;

}  // namespace vmm
