#include "bt/interp/halt_poll.h"

#include <catch2/catch.hpp>
#include <thread>

namespace bt {

using namespace std::chrono_literals;

TEST_CASE("short halts make a halt look for longer, a long one makes it sleep at once") {
  HaltPoll poll(true);
  CHECK(poll.window() == 0ns);
  poll.Slept(50us);
  CHECK(poll.window() == HaltPoll::kFirst);
  poll.Slept(50us);
  CHECK(poll.window() == 2 * HaltPoll::kFirst);
  for (int i = 0; i < 10; ++i) poll.Slept(HaltPoll::kLongest);
  CHECK(poll.window() == HaltPoll::kLongest);
  poll.Slept(HaltPoll::kLongest + 1ns);
  CHECK(poll.window() == 0ns);
}

TEST_CASE("on a host with one processor a halt never looks") {
  HaltPoll poll(false);
  poll.Slept(50us);
  CHECK(poll.window() == 0ns);
}

TEST_CASE("a halt ends when a bit is set, whether it looks or sleeps", "[threads]") {
  HaltPoll poll(true);
  for (int round = 0; round < 300; ++round) {
    std::atomic<uint32_t> bits = 0;
    std::thread other([&] {
      if (round % 3 != 0) std::this_thread::sleep_for(round % 3 == 1 ? 30us : 400us);
      bits.fetch_or(4);
      bits.notify_one();
    });
    poll.Wait(bits);
    CHECK(bits == 4);
    other.join();
  }
}

}  // namespace bt
