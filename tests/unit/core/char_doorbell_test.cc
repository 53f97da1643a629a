#include "vmm/core/host/char_doorbell.h"

#include <catch2/catch.hpp>
#include <chrono>
#include <memory>
#include <thread>
#include <utility>

#include "tests/support/fake_clock.h"

using namespace std::chrono_literals;

namespace {

struct Bell {
  explicit Bell(std::chrono::nanoseconds pause, bool has_work = true)
      : bell(std::move(*vmm::CharDoorbell::Create(
            *loop,
            [this, has_work] {
              ++calls;
              return has_work;
            },
            pause))) {}

  vmm::FakeClock clock{0};
  std::unique_ptr<vmm::EventLoop> loop = std::move(*vmm::EventLoop::Create(clock));
  int calls = 0;
  std::unique_ptr<vmm::CharDoorbell> bell;
};

}  // namespace

TEST_CASE("a doorbell without a pause is answered each time", "[host]") {
  Bell door(0ms);
  for (int i = 1; i <= 3; ++i) {
    door.bell->Ring();
    door.bell->Ring();
    door.loop->RunPending();
    CHECK(door.calls == i);
  }
  door.loop->RunPending();
  CHECK(door.calls == 3);
}

TEST_CASE("who rings during a pause is answered behind it", "[host]") {
  Bell door(300ms);
  door.bell->Ring();
  door.loop->RunPending();
  CHECK(door.calls == 1);  // at once
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < 1000; ++i) {
    door.bell->Ring();
    if (i % 100 == 0) door.loop->RunPending();
  }
  if (std::chrono::steady_clock::now() - start < 200ms) CHECK(door.calls == 1);
  while (door.calls < 2 && std::chrono::steady_clock::now() - start < 20s) {
    std::this_thread::sleep_for(10ms);
    door.loop->RunPending();
  }
  CHECK(door.calls == 2);
}

TEST_CASE("a doorbell that found nothing to do pauses for nobody", "[host]") {
  Bell door(500ms, false);
  for (int i = 1; i <= 3; ++i) {
    door.bell->Ring();
    door.loop->RunPending();
    CHECK(door.calls == i);
  }
}
