#include "bt/cell/one_processor.h"

#include <chrono>

namespace bt {
namespace {

constexpr uint64_t kAtATime = 20'000'000;  // nanoseconds

uint64_t Now() {
  return static_cast<uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
}

cpu_set_t Only(int processor) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<size_t>(processor), &set);
  return set;
}

}  // namespace

void OneProcessor::Join(pid_t other) {
  const uint64_t now = Now();
  if (joined()) {
    if (now - since_ < kAtATime) return;
    return Leave();  // until the next time
  }
  const int here = sched_getcpu();
  if (here < 0 || here >= CPU_SETSIZE || sched_getaffinity(0, sizeof(before_), &before_) != 0)
    return;
  const cpu_set_t only = Only(here);
  if (sched_setaffinity(0, sizeof(only), &only) != 0) return;
  processor_ = here;
  since_ = now;
  if (others_ != here && sched_setaffinity(other, sizeof(only), &only) == 0) others_ = here;
}

void OneProcessor::Leave() {
  if (!joined()) return;
  const cpu_set_t only = Only(processor_);
  processor_ = -1;
  cpu_set_t now;
  if (sched_getaffinity(0, sizeof(now), &now) == 0 && CPU_EQUAL(&now, &only))
    sched_setaffinity(0, sizeof(before_), &before_);
}

}  // namespace bt
