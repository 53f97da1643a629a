#include "vmm/core/host/timer_heap.h"

namespace vmm {

void TimerHeap::Set(TimerNode& node, Nanoseconds deadline) {
  node.deadline = deadline;
  if (node.place == TimerNode::kNowhere) {
    nodes_.push_back(&node);
    node.place = nodes_.size() - 1;
  }
  SiftUp(node.place);
  SiftDown(node.place);
}

void TimerHeap::Remove(TimerNode& node) {
  if (node.place == TimerNode::kNowhere) return;
  const size_t hole = node.place;
  node.place = TimerNode::kNowhere;
  TimerNode* const last = nodes_.back();
  nodes_.pop_back();
  if (last == &node) return;
  Place(hole, last);
  SiftUp(last->place);
  SiftDown(last->place);
}

void TimerHeap::Place(size_t at, TimerNode* node) {
  nodes_[at] = node;
  node->place = at;
}

void TimerHeap::SiftUp(size_t at) {
  TimerNode* const node = nodes_[at];
  while (at > 0) {
    const size_t parent = (at - 1) / 2;
    if (nodes_[parent]->deadline <= node->deadline) break;
    Place(at, nodes_[parent]);
    at = parent;
  }
  Place(at, node);
}

void TimerHeap::SiftDown(size_t at) {
  TimerNode* const node = nodes_[at];
  while (true) {
    size_t child = 2 * at + 1;
    if (child >= nodes_.size()) break;
    if (child + 1 < nodes_.size() && nodes_[child + 1]->deadline < nodes_[child]->deadline) ++child;
    if (node->deadline <= nodes_[child]->deadline) break;
    Place(at, nodes_[child]);
    at = child;
  }
  Place(at, node);
}

}  // namespace vmm
