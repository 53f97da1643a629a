// Timers in the order of their deadlines.
#pragma once

#include <cstddef>
#include <vector>

#include "vmm/core/time/clock.h"

namespace vmm {

// What a TimerHeap orders. It knows its own place, so that a re-arm moves it in O(log n) and
// allocates nothing.
struct TimerNode {
  static constexpr size_t kNowhere = ~size_t{0};
  Nanoseconds deadline{};
  size_t place = kNowhere;
};

// A binary heap of nodes that others own. Not thread-safe.
class TimerHeap {
 public:
  bool empty() const { return nodes_.empty(); }
  size_t size() const { return nodes_.size(); }
  TimerNode* first() const { return nodes_.front(); }  // of the earliest deadline

  // Puts `node` in, or moves it if it is in already.
  void Set(TimerNode& node, Nanoseconds deadline);
  // Nothing happens if it is not in.
  void Remove(TimerNode& node);

 private:
  void Place(size_t at, TimerNode* node);
  void SiftUp(size_t at);
  void SiftDown(size_t at);

  std::vector<TimerNode*> nodes_;
};

}  // namespace vmm
