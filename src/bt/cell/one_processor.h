// Keeps a thread and a process that hand over to each other on one processor of the host.
#pragma once

#include <sched.h>
#include <sys/types.h>

#include <cstdint>

namespace bt {

// Whoever wakes another one goes on for a moment, so the scheduler sends the one that wakes to
// another processor if any is idle: there and back again takes tens of microseconds instead of
// five. Once in a while they are let go, so that they get away from a processor that others want.
//
// Of the thread that calls.
class OneProcessor {
 public:
  OneProcessor() = default;
  ~OneProcessor() { Leave(); }
  OneProcessor(const OneProcessor&) = delete;
  OneProcessor& operator=(const OneProcessor&) = delete;
  // Before `other` is woken: it runs where the thread does.
  void Join(pid_t other);
  // The thread may run anywhere again, but for where its processors were chosen meanwhile.
  void Leave();
  bool joined() const { return processor_ >= 0; }

 private:
  int processor_ = -1;     // where the thread has to stay
  int others_ = -1;        // where the other one has to
  uint64_t since_ = 0;     // nanoseconds of the host
  cpu_set_t before_ = {};  // where the thread might run
};

}  // namespace bt
