// Who hands over to each other stays on one processor, and leaves it again.
#include "bt/cell/one_processor.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <thread>

namespace {

cpu_set_t ProcessorsOf(pid_t pid) {
  cpu_set_t set;
  REQUIRE(sched_getaffinity(pid, sizeof(set), &set) == 0);
  return set;
}

bool Same(const cpu_set_t& left, const cpu_set_t& right) {
  return CPU_EQUAL(&left, &right);
}

struct Other {
  ~Other() {
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
  }
  const pid_t pid = [] {
    const pid_t child = fork();
    if (child == 0)
      for (;;) pause();
    return child;
  }();
};

// In a thread of its own, whose processors nobody else counts on.
template <class Body>
void InThread(Body body) {
  std::thread(body).join();
}

TEST_CASE("a process joins the thread on its processor, which may leave again", "[cell]") {
  Other other;
  REQUIRE(other.pid > 0);
  InThread([&] {
    const cpu_set_t before = ProcessorsOf(0);
    bt::OneProcessor together;
    together.Leave();
    CHECK(Same(ProcessorsOf(0), before));
    together.Join(other.pid);
    REQUIRE(together.joined());
    const cpu_set_t joined = ProcessorsOf(0);
    CHECK(CPU_COUNT(&joined) == 1);
    CHECK(CPU_ISSET(static_cast<size_t>(sched_getcpu()), &joined));
    CHECK(Same(ProcessorsOf(other.pid), joined));
    together.Leave();
    CHECK(Same(ProcessorsOf(0), before));
    CHECK(Same(ProcessorsOf(other.pid), joined));  // it follows the next time
  });
}

TEST_CASE("after a while the thread may leave for one turn by itself", "[cell]") {
  Other other;
  InThread([&] {
    bt::OneProcessor together;
    together.Join(other.pid);
    bool left = false, again = false;
    while (!left) {
      together.Join(other.pid);
      left = !together.joined();
    }
    together.Join(other.pid);
    again = together.joined();
    CHECK(again);
    together.Leave();
  });
}

TEST_CASE("processors that somebody chose meanwhile stay chosen", "[cell]") {
  Other other;
  InThread([&] {
    const cpu_set_t before = ProcessorsOf(0);
    if (CPU_COUNT(&before) < 2) {
      WARN("one processor: there is nothing to choose");
      return;
    }
    bt::OneProcessor together;
    together.Join(other.pid);
    const cpu_set_t joined = ProcessorsOf(0);
    cpu_set_t chosen;
    CPU_ZERO(&chosen);
    for (size_t i = 0; i < CPU_SETSIZE && CPU_COUNT(&chosen) == 0; ++i) {
      if (CPU_ISSET(i, &before) && !CPU_ISSET(i, &joined)) CPU_SET(i, &chosen);
    }
    REQUIRE(sched_setaffinity(0, sizeof(chosen), &chosen) == 0);
    together.Leave();
    CHECK(Same(ProcessorsOf(0), chosen));
  });
}

}  // namespace
