#include "vmm/core/host/poll_thread.h"

#include <poll.h>
#include <unistd.h>

#include <catch2/catch.hpp>

namespace vmm {

TEST_CASE("Each ring is followed by a run that began after it", "[net][threads]") {
  std::atomic<unsigned> wanted{0}, seen{0};
  PollThread thread("test", [&]() -> PollThread::Wait {
    seen = wanted.load();
    seen.notify_all();
    return {};
  });
  for (unsigned i = 1; i <= 1000; ++i) {
    wanted = i;
    thread.Ring();
    while (seen != i) seen.wait(i - 1);
  }
}

TEST_CASE("A signal of its bell is a ring, whoever gives it", "[net][threads]") {
  std::atomic<unsigned> wanted{0}, seen{0};
  PollThread thread("test", [&]() -> PollThread::Wait {
    seen = wanted.load();
    seen.notify_all();
    return {};
  });
  for (unsigned i = 1; i <= 1000; ++i) {
    wanted = i;
    const uint64_t one = 1;
    REQUIRE(write(thread.bell(), &one, sizeof one) == sizeof one);
    if (i % 3 == 0) thread.Ring();
    while (seen != i) seen.wait(i - 1);
  }
}

TEST_CASE("It wakes for its descriptor, and does not wait when there is more", "[net][threads]") {
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  UniqueFd in(ends[0]), out(ends[1]);
  std::atomic<unsigned> runs{0}, bytes{0};
  PollThread thread("test", [&]() -> PollThread::Wait {
    if (++runs < 10) return {.not_at_all = true};
    pollfd ready{in.get(), POLLIN, 0};
    char byte;
    if (poll(&ready, 1, 0) == 1 && read(in.get(), &byte, 1) == 1) ++bytes;
    bytes.notify_all();
    return {.fd = in.get(), .events = POLLIN};
  });
  REQUIRE(write(out.get(), "ab", 2) == 2);
  for (unsigned now = 0; (now = bytes) != 2;) bytes.wait(now);
  CHECK(runs >= 10);
}

}  // namespace vmm
