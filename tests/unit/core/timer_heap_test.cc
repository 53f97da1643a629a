#include "vmm/core/host/timer_heap.h"

#include <catch2/catch.hpp>
#include <random>

namespace {

using vmm::Nanoseconds;
using vmm::TimerHeap;
using vmm::TimerNode;

TEST_CASE("The first node always has the earliest deadline, through any sets and removes") {
  std::mt19937 random(1);
  std::array<TimerNode, 40> nodes;
  TimerHeap heap;
  for (int step = 0; step < 5000; ++step) {
    TimerNode& node = nodes[random() % nodes.size()];
    if (random() % 3 == 0) {
      heap.Remove(node);
    } else {
      heap.Set(node, Nanoseconds(random() % 1000));
    }
    size_t count = 0;
    Nanoseconds earliest = Nanoseconds::max();
    for (const TimerNode& other : nodes) {
      if (other.place == TimerNode::kNowhere) continue;
      ++count;
      earliest = std::min(earliest, other.deadline);
    }
    REQUIRE(heap.size() == count);
    if (count > 0) REQUIRE(heap.first()->deadline == earliest);
  }
}

}  // namespace
