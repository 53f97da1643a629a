#include "vmm/machine/machine_difference.h"

#include <fmt/format.h>
#include <libfdt.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <vector>

namespace vmm {
namespace {

constexpr size_t kMostTold = 3;
constexpr int kDeepest = 16;
constexpr size_t kMostEntries = 10000;

// "path property" to its bytes; a node without properties is there with an empty property.
using Tree = std::map<std::string, std::string>;

// False: it is no device tree.
bool Flatten(std::span<const uint8_t> blob, Tree& out) {
  if (blob.size() < sizeof(fdt_header) || fdt_check_full(blob.data(), blob.size()) != 0) {
    return false;
  }
  std::vector<std::string> path;
  int depth = 0;
  for (int node = 0; node >= 0; node = fdt_next_node(blob.data(), node, &depth)) {
    if (depth < 0) break;
    if (depth > kDeepest || out.size() > kMostEntries) return false;
    path.resize(static_cast<size_t>(std::max(depth - 1, 0)));
    const char* name = fdt_get_name(blob.data(), node, nullptr);
    if (name == nullptr) return false;
    if (depth > 0) path.push_back(name);
    const std::string place = fmt::format("/{}", fmt::join(path, "/"));
    out[place];
    int property;
    fdt_for_each_property_offset(property, blob.data(), node) {
      const char* property_name = nullptr;
      int length = 0;
      const void* value = fdt_getprop_by_offset(blob.data(), property, &property_name, &length);
      if (value == nullptr || length < 0) return false;
      out[place + " " + property_name] =
          std::string(static_cast<const char*>(value), static_cast<size_t>(length));
    }
  }
  out.erase("/ model");  // the machine's name
  return true;
}

std::string Show(const std::string& value) {
  const bool text = !value.empty() && value.back() == '\0' && value.front() != '\0' &&
                    std::all_of(value.begin(), value.end() - 1,
                                [](char c) { return c == '\0' || (c >= ' ' && c < 0x7f); });
  if (text) return fmt::format("\"{}\"", value.c_str());
  std::string cells;
  for (size_t i = 0; i + 4 <= value.size() && i < 32; i += 4) {
    uint32_t cell = 0;
    for (size_t j = 0; j < 4; ++j) cell = cell << 8 | static_cast<uint8_t>(value[i + j]);
    cells += fmt::format("{}{:#x}", cells.empty() ? "" : " ", cell);
  }
  return fmt::format("<{}>", cells);
}

uint64_t CountCpus(const Tree& tree) {
  return static_cast<uint64_t>(std::count_if(tree.begin(), tree.end(), [](const auto& entry) {
    return entry.first.starts_with("/cpus/cpu@") && entry.first.find(' ') == std::string::npos;
  }));
}

// RAM that the guest is told of, in MiB.
uint64_t MemoryOf(const Tree& tree) {
  uint64_t bytes = 0;
  for (const auto& [place, value] : tree) {
    if (!place.starts_with("/memory") || !place.ends_with(" reg")) continue;
    for (size_t i = 0; i + 16 <= value.size(); i += 16) {
      uint64_t size = 0;
      for (size_t j = 8; j < 16; ++j) size = size << 8 | static_cast<uint8_t>(value[i + j]);
      bytes += size;
    }
  }
  return bytes >> 20;
}

}  // namespace

std::string DescribeDifference(std::span<const uint8_t> saved, std::span<const uint8_t> here) {
  if (std::equal(saved.begin(), saved.end(), here.begin(), here.end())) return "";
  Tree then, now;
  if (!Flatten(saved, then)) return "its description is damaged";
  Flatten(here, now);
  if (CountCpus(then) != CountCpus(now)) {
    return fmt::format("it has cpus = {}, this one {}", CountCpus(then), CountCpus(now));
  }
  if (MemoryOf(then) != MemoryOf(now)) {
    return fmt::format("its guest has {} MiB of RAM, this one's {} MiB", MemoryOf(then),
                       MemoryOf(now));
  }
  std::vector<std::string> told;
  for (const auto& [place, value] : then) {
    const auto other = now.find(place);
    if (other == now.end()) {
      told.push_back(fmt::format("it has {}", place));
    } else if (other->second != value) {
      told.push_back(
          fmt::format("{} is {} in it, {} here", place, Show(value), Show(other->second)));
    }
  }
  for (const auto& [place, value] : now) {
    if (!then.contains(place)) told.push_back(fmt::format("it has no {}", place));
  }
  if (told.size() > kMostTold) {
    const size_t more = told.size() - kMostTold;
    told.resize(kMostTold);
    told.push_back(fmt::format("and {} more", more));
  }
  return fmt::format("{}", fmt::join(told, "; "));
}

}  // namespace vmm
