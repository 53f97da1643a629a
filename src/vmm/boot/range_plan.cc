#include "vmm/boot/range_plan.h"

#include <fmt/format.h>

#include <algorithm>

#include "vmm/core/base/check.h"

namespace vmm {
namespace {

constexpr uint64_t AlignDown(uint64_t value, uint64_t alignment) {
  return value & ~(alignment - 1);
}

std::string RangeText(uint64_t start, uint64_t end) {
  return fmt::format("{:#x}-{:#x}", start, end - 1);
}

}  // namespace

std::string SizeText(uint64_t bytes) {
  if (bytes >= 10 * kMiB) return fmt::format("{} MiB", (bytes + kMiB - 1) / kMiB);
  if (bytes >= 10 * kKiB) return fmt::format("{} KiB", (bytes + kKiB - 1) / kKiB);
  return fmt::format("{} bytes", bytes);
}

RangePlan::RangePlan(GuestMemory& memory) : memory_(memory) {
  ranges_.push_back({"the BIOS data area", 0, kBiosDataEnd.value, true});
  ranges_.push_back({"video memory and the BIOS", kEbdaStart.value, kHighMemoryStart.value, true});
}

uint64_t RangePlan::low_ram_end() const {
  for (const RamRegion& region : memory_.regions()) {
    if (region.start.value == 0) return region.size;
  }
  return 0;
}

const RangePlan::Range* RangePlan::FirstOverlap(uint64_t start, uint64_t end) const {
  for (const Range& range : ranges_) {
    if (start < range.end && range.start < end) return &range;
  }
  return nullptr;
}

Result<uint8_t*> RangePlan::Claim(std::string_view name, uint64_t start, uint64_t size) {
  if (size == 0) return Fail(ExitCode::kConfigInvalid, fmt::format("{} is empty", name));
  const uint64_t end = start + size;
  if (end < start) {
    return Fail(ExitCode::kConfigInvalid,
                fmt::format("{} ({} bytes at {:#x}) runs over the end of the address space", name,
                            size, start));
  }
  uint8_t* host = memory_.Host(GuestPhys(start), size);
  if (host == nullptr) {
    return Fail(ExitCode::kConfigInvalid,
                fmt::format("{} ({}) does not fit into guest memory ({})", name,
                            RangeText(start, end), SizeText(memory_.size())));
  }
  if (const Range* other = FirstOverlap(start, end)) {
    return Fail(ExitCode::kConfigInvalid,
                fmt::format("{} ({}) overlaps {} ({})", name, RangeText(start, end), other->name,
                            RangeText(other->start, other->end)));
  }
  const auto place = std::upper_bound(ranges_.begin(), ranges_.end(), start,
                                      [](uint64_t s, const Range& r) { return s < r.start; });
  ranges_.insert(place, {std::string(name), start, end, false});
  return host;
}

void RangePlan::Release(uint64_t start) {
  const size_t released = std::erase_if(
      ranges_, [&](const Range& range) { return range.start == start && !range.firmware; });
  CHECK(released == 1);
}

std::optional<uint64_t> RangePlan::FindHighest(uint64_t size, uint64_t alignment, uint64_t floor,
                                               uint64_t ceiling) const {
  CHECK(size != 0 && alignment != 0 && (alignment & (alignment - 1)) == 0);
  uint64_t end = std::min(ceiling, low_ram_end());
  while (end > floor && size <= end - floor) {
    const uint64_t start = AlignDown(end - size, alignment);
    if (start < floor) return std::nullopt;
    const Range* other = FirstOverlap(start, start + size);
    if (other == nullptr) return start;
    end = other->start;
  }
  return std::nullopt;
}

std::optional<uint64_t> RangePlan::FindLowest(uint64_t size, uint64_t alignment, uint64_t floor,
                                              uint64_t ceiling) const {
  CHECK(size != 0 && alignment != 0 && (alignment & (alignment - 1)) == 0);
  const uint64_t top = std::min(ceiling, low_ram_end());
  uint64_t start = floor;
  while (true) {
    const uint64_t aligned = AlignDown(start + alignment - 1, alignment);
    if (aligned < start || aligned > top || size > top - aligned) return std::nullopt;
    const Range* other = FirstOverlap(aligned, aligned + size);
    if (other == nullptr) return aligned;
    start = other->end;
  }
}

std::vector<BootEntry::Placed> RangePlan::placed() const {
  std::vector<BootEntry::Placed> placed;
  for (const Range& range : ranges_) {
    if (range.firmware) continue;
    placed.push_back({range.name, GuestPhys(range.start), range.end - range.start});
  }
  return placed;
}

}  // namespace vmm
