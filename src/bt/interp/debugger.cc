#include "bt/interp/debugger.h"

#include <algorithm>
#include <utility>

namespace bt {

using vmm::DebugPoint;
using vmm::DebugStop;

void DebugPoints::Set(std::span<const DebugPoint> points) {
  code_.clear();
  data_.clear();
  for (const DebugPoint& point : points) (point.is_data() ? data_ : code_).push_back(point);
  std::ranges::sort(code_, {}, &DebugPoint::address);
}

const DebugPoint* DebugPoints::CodeAt(uint64_t linear) const {
  const auto found =
      std::ranges::lower_bound(code_, vmm::GuestVirt(linear), {}, &DebugPoint::address);
  return found != code_.end() && found->address.value == linear ? &*found : nullptr;
}

const DebugPoint* DebugPoints::DataAt(uint64_t linear, uint64_t size, bool write) const {
  for (const DebugPoint& point : data_) {
    if (point.kind == (write ? DebugPoint::Kind::kRead : DebugPoint::Kind::kWrite)) continue;
    // Either begins inside the other.
    if (linear - point.address.value < point.length || point.address.value - linear < size) {
      return &point;
    }
  }
  return nullptr;
}

bool DebugPoints::WatchesPage(uint64_t page, bool write) const {
  return DataAt(page, vmm::kPageSize, write) != nullptr;
}

bool Debugger::MayBegin(uint64_t linear) {
  const bool passing = std::exchange(passing_, std::nullopt) == linear;
  const DebugPoint* const point = passing ? nullptr : points_.CodeAt(linear);
  if (point == nullptr) {
    current_ = linear;
    return true;
  }
  stop_ = DebugStop{DebugStop::Reason::kPoint, *point};
  return false;
}

void Debugger::OnInstruction(bool again) {
  if (again) passing_ = current_;
}

void Debugger::OnAccess(uint64_t linear, uint64_t size, bool write) {
  if (stop_) return;
  if (const DebugPoint* const point = points_.DataAt(linear, size, write)) {
    stop_ = DebugStop{DebugStop::Reason::kPoint, *point};
  }
}

void Debugger::OnStepEnd() {
  if (!stop_) stop_ = DebugStop{};
}

DebugStop Debugger::TakeStop() {
  const DebugStop stop = *std::exchange(stop_, std::nullopt);
  if (stop.reason == DebugStop::Reason::kPoint && !stop.point.is_data()) {
    passing_ = stop.point.address.value;
  }
  return stop;
}

}  // namespace bt
