// The processors that the host gives this process.
#pragma once

#include <sched.h>

namespace vmm {

// On which the calling thread may run; sched_setaffinity(2), cpusets of its cgroup. At least 1.
inline unsigned UsableProcessors() {
  cpu_set_t set;
  // It fails where the host has more than a set can hold.
  return sched_getaffinity(0, sizeof(set), &set) == 0 ? static_cast<unsigned>(CPU_COUNT(&set))
                                                      : CPU_SETSIZE;
}

// The calling thread puts no other one off a processor when it wakes: what helps a vCPU must not
// stand in its way. A wish. sched(7), SCHED_BATCH
inline void StandBehindOthers() {
  const sched_param none{};
  sched_setscheduler(0, SCHED_BATCH, &none);
}

}  // namespace vmm
