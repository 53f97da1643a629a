#include "vmm/machine/statistics_table.h"

#include <fmt/format.h>

#include <algorithm>

namespace vmm {
namespace {

std::string Value(const Statistic& statistic) {
  return statistic.scale == 0 ? fmt::to_string(statistic.count)
                              : fmt::format("{:.3f}", statistic.value());
}

}  // namespace

std::string StatisticsTable(std::string_view engine, std::span<const Statistics> vcpus) {
  if (vcpus.empty() || vcpus.front().empty()) return {};
  const bool several = vcpus.size() > 1;
  size_t width = 0;
  for (const Statistic& statistic : vcpus.front()) width = std::max(width, statistic.name.size());
  std::string text = fmt::format("{:<{}}", fmt::format("statistics of {}", engine), width);
  if (several) {
    for (size_t cpu = 0; cpu < vcpus.size(); ++cpu)
      text += fmt::format("  {:>14}", fmt::format("CPU {}", cpu));
  }
  text += fmt::format("  {:>14}\n", "total");
  for (size_t row = 0; row < vcpus.front().size(); ++row) {
    Statistic total = vcpus.front()[row];
    total.count = total.per = 0;
    text += fmt::format("{:<{}}", total.name, width);
    for (const Statistics& vcpu : vcpus) {
      total.count += vcpu[row].count;
      total.per += vcpu[row].per;
      if (several) text += fmt::format("  {:>14}", Value(vcpu[row]));
    }
    text += fmt::format("  {:>14}\n", Value(total));
  }
  return text;
}

}  // namespace vmm
