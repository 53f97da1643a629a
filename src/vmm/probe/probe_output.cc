#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "vmm/probe/probe.h"

namespace vmm {
namespace {

double Rounded(double value, int digits) {
  const double scale = std::pow(10, digits);
  return std::round(value * scale) / scale;
}

}  // namespace

std::string ToJson(const ProbeResult& result) {
  nlohmann::ordered_json json;
  json["engine"] = result.engine;
  json["reason"] = result.reason;
  json["remedy"] = result.remedy;
  json["cpu_ms"] = Rounded(result.cpu_ms, 3);
  json["wall_ms"] = Rounded(result.wall_ms, 3);
  json["kvm"]["present"] = result.kvm.present;
  json["kvm"]["nested_paging"] = result.kvm.nested_paging;
  json["kvm"]["speed_ratio"] = Rounded(result.kvm.speed_ratio, 6);
  json["kvm"]["missing"] = result.kvm.missing;
  // Bytes of a message that are no UTF-8 are replaced, not thrown at the user.
  return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

std::string ToText(const ProbeResult& result) {
  std::string text =
      fmt::format("engine:        {}\nreason:        {}\n", result.engine, result.reason);
  if (!result.remedy.empty()) text += fmt::format("to change it:  {}\n", result.remedy);
  text += fmt::format("KVM:           {}\n", result.kvm.present ? "present" : "not usable");
  if (result.kvm.present) {
    text += fmt::format("nested paging: {}\n", result.kvm.nested_paging ? "yes" : "no");
    text += result.kvm.speed_ratio > 0
                ? fmt::format("speed:         {:.4g} of native\n", result.kvm.speed_ratio)
                : "speed:         not measured\n";
    text += fmt::format("missing:       {}\n",
                        result.kvm.missing.empty()
                            ? "nothing"
                            : fmt::format("{}", fmt::join(result.kvm.missing, ", ")));
  }
  text += fmt::format("probe took:    {:.1f} ms CPU, {:.1f} ms\n", result.cpu_ms, result.wall_ms);
  return text;
}

}  // namespace vmm
