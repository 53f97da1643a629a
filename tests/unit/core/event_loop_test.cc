#include "vmm/core/host/event_loop.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <future>
#include <thread>

#include "vmm/core/time/host_clock.h"

namespace {

using namespace std::chrono_literals;
using vmm::EventLoop;
using vmm::HostClock;
using vmm::Nanoseconds;
using vmm::UniqueFd;

// A loop on a thread of its own, as in a machine.
struct RunningLoop {
  RunningLoop() : loop(*EventLoop::Create(clock)) {
    clock.Start();
    thread = std::thread([this] { loop->Run(); });
  }
  ~RunningLoop() {
    loop->Stop();
    thread.join();
  }
  // Returns when the I/O thread has done what was posted before.
  void Sync() {
    std::promise<void> done;
    loop->Post([&] { done.set_value(); });
    done.get_future().wait();
  }

  HostClock clock{{1'000'000'000, vmm::TscFrequency::Source::kSynthetic}};
  std::unique_ptr<EventLoop> loop;
  std::thread thread;
};

void Signal(int fd) {
  REQUIRE(eventfd_write(fd, 1) == 0);
}

TEST_CASE("Posted work runs on the I/O thread in the order of posting", "[threads]") {
  RunningLoop io;
  std::vector<int> order;
  bool on_io_thread = false;
  for (int i = 0; i < 100; ++i) io.loop->Post([&order, i] { order.push_back(i); });
  io.loop->Post([&] { on_io_thread = io.loop->OnIoThread(); });
  io.Sync();
  REQUIRE(order.size() == 100);
  REQUIRE(std::is_sorted(order.begin(), order.end()));
  REQUIRE(on_io_thread);
  REQUIRE_FALSE(io.loop->OnIoThread());
}

TEST_CASE("Stop before Run ends that Run at once, and only that one", "[threads]") {
  HostClock clock;
  auto loop = *EventLoop::Create(clock);
  loop->Stop();
  loop->Run();
  bool ran = false;
  loop->Post([&] {
    ran = true;
    loop->Stop();
  });
  loop->Run();
  REQUIRE(ran);
}

TEST_CASE("A descriptor's events reach its callback until it is removed", "[threads]") {
  HostClock clock;
  auto loop = *EventLoop::Create(clock);
  UniqueFd fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  uint32_t seen = 0;
  int calls = 0;
  REQUIRE(loop->AddFd(fd.get(), EPOLLIN, [&](uint32_t events) {
    seen = events;
    ++calls;
  }));
  REQUIRE_FALSE(loop->AddFd(fd.get(), EPOLLIN, [](uint32_t) {}));
  loop->RunPending();
  REQUIRE(calls == 0);
  Signal(fd.get());
  loop->RunPending();
  REQUIRE(seen == EPOLLIN);
  loop->RunPending();
  REQUIRE(calls == 2);  // level-triggered
  loop->ModifyFd(fd.get(), 0);
  loop->RunPending();
  REQUIRE(calls == 2);
  loop->ModifyFd(fd.get(), EPOLLIN);
  loop->RemoveFd(fd.get());
  loop->RunPending();
  REQUIRE(calls == 2);
}

TEST_CASE("A callback may remove its own descriptor, and those of others in the same round",
          "[threads]") {
  HostClock clock;
  auto loop = *EventLoop::Create(clock);
  UniqueFd first(eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK));
  UniqueFd second(eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK));
  int calls = 0;
  const auto remove_both = [&](uint32_t) {
    ++calls;
    loop->RemoveFd(first.get());
    loop->RemoveFd(second.get());
  };
  REQUIRE(loop->AddFd(first.get(), EPOLLIN, remove_both));
  REQUIRE(loop->AddFd(second.get(), EPOLLIN, remove_both));
  loop->RunPending();
  REQUIRE(calls == 1);
}

TEST_CASE("RemoveFd waits for a callback that runs on the I/O thread", "[threads]") {
  RunningLoop io;
  UniqueFd fd(eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK));
  std::promise<void> entered;
  std::atomic<bool> left{false};
  REQUIRE(io.loop->AddFd(fd.get(), EPOLLIN, [&](uint32_t) {
    if (left) return;
    entered.set_value();
    std::this_thread::sleep_for(5ms);
    left = true;
  }));
  entered.get_future().wait();
  io.loop->RemoveFd(fd.get());
  REQUIRE(left);
}

TEST_CASE("A timer fires once, not before its deadline, on the I/O thread", "[threads]") {
  RunningLoop io;
  std::promise<Nanoseconds> fired;
  std::atomic<int> count{0};
  auto timer = io.loop->NewTimer([&] {
    if (++count == 1) fired.set_value(io.clock.Now());
  });
  const Nanoseconds deadline = io.clock.Now() + 3ms;
  timer->Arm(deadline);
  const Nanoseconds at = fired.get_future().get();
  REQUIRE(at >= deadline);
  REQUIRE(at < deadline + 2s);
  io.Sync();
  REQUIRE(count == 1);
}

TEST_CASE("Timers fire in the order of their deadlines, whatever the order of arming",
          "[threads]") {
  RunningLoop io;
  std::vector<int> order;
  std::promise<void> done;
  std::vector<std::unique_ptr<vmm::Timer>> timers;
  const Nanoseconds start = io.clock.Now() + 2ms;
  for (int i = 0; i < 32; ++i) {
    timers.push_back(io.loop->NewTimer([&, i] {
      order.push_back(i);
      if (order.size() == 32) done.set_value();
    }));
  }
  for (int i = 0; i < 32; ++i) {
    const int shuffled = (i * 13) % 32;
    timers[shuffled]->Arm(start + shuffled * 10us);
  }
  done.get_future().wait();
  REQUIRE(std::is_sorted(order.begin(), order.end()));
}

TEST_CASE("Re-arming replaces the deadline, earlier and later, and Disarm takes it back",
          "[threads]") {
  RunningLoop io;
  std::promise<void> soon;
  std::atomic<bool> late_fired{false}, never_fired{false};
  auto earlier = io.loop->NewTimer([&] { soon.set_value(); });
  auto later = io.loop->NewTimer([&] { late_fired = true; });
  auto never = io.loop->NewTimer([&] { never_fired = true; });
  const Nanoseconds now = io.clock.Now();
  earlier->Arm(now + 1h);
  later->Arm(now + 2ms);
  never->Arm(now + 2ms);
  later->Arm(now + 1h);
  never->Disarm();
  earlier->Arm(now + 4ms);
  soon.get_future().wait();
  REQUIRE_FALSE(late_fired);
  REQUIRE_FALSE(never_fired);
}

TEST_CASE("A timer that is always due lets descriptors and posted work through", "[threads]") {
  RunningLoop io;
  std::unique_ptr<vmm::Timer> timer;
  timer = io.loop->NewTimer([&] { timer->Arm(Nanoseconds(0)); });
  timer->Arm(Nanoseconds(0));
  io.Sync();
  io.Sync();
  SUCCEED();
}

TEST_CASE("No timer fires while the clock stands, and it does when the clock goes on",
          "[threads]") {
  RunningLoop io;
  std::promise<void> fired;
  std::atomic<bool> early{true};
  auto timer = io.loop->NewTimer([&] {
    CHECK_FALSE(early);
    fired.set_value();
  });
  timer->Arm(io.clock.Now() + 2ms);
  io.clock.Pause();
  std::this_thread::sleep_for(6ms);
  io.Sync();
  early = false;
  io.clock.Resume();
  fired.get_future().wait();
}

TEST_CASE("A timer armed before the clock starts fires after it", "[threads]") {
  HostClock clock;
  auto loop = *EventLoop::Create(clock);
  auto timer = loop->NewTimer([&] { loop->Stop(); });
  timer->Arm(1ms);
  std::thread io([&] { loop->Run(); });
  clock.Start();
  io.join();
  REQUIRE(clock.Now() >= 1ms);
}

TEST_CASE("Destroying a timer waits for its callback, even one that arms it again", "[threads]") {
  RunningLoop io;
  std::promise<void> entered;
  std::atomic<bool> left{false};
  std::atomic<vmm::Timer*> self{nullptr};
  auto timer = io.loop->NewTimer([&] {
    if (left) return;
    entered.set_value();
    std::this_thread::sleep_for(5ms);
    self.load()->Arm(Nanoseconds(0));
    left = true;
  });
  self = timer.get();
  timer->Arm(Nanoseconds(0));
  entered.get_future().wait();
  timer.reset();
  REQUIRE(left);
  io.Sync();
}

TEST_CASE("A callback may destroy its own timer", "[threads]") {
  RunningLoop io;
  std::promise<void> done;
  std::unique_ptr<vmm::Timer> timer;
  timer = io.loop->NewTimer([&] {
    timer.reset();
    done.set_value();
  });
  timer->Arm(Nanoseconds(0));
  done.get_future().wait();
  io.Sync();
  REQUIRE(timer == nullptr);
}

TEST_CASE("Timers may be armed, disarmed and destroyed from many threads at once", "[threads]") {
  RunningLoop io;
  std::atomic<uint64_t> fired{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int round = 0; round < 50; ++round) {
        auto a = io.loop->NewTimer([&] { ++fired; });
        auto b = io.loop->NewTimer([&] { ++fired; });
        for (int i = 0; i < 20; ++i) {
          a->Arm(io.clock.Now() + Nanoseconds(i * 500 * (t + 1)));
          b->Arm(io.clock.Now());
          if (i % 3 == 0) a->Disarm();
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  // How many fired before they were destroyed is chance; the loop must still keep time.
  std::promise<void> done;
  auto last = io.loop->NewTimer([&] { done.set_value(); });
  last->Arm(io.clock.Now());
  REQUIRE(done.get_future().wait_for(std::chrono::seconds(30)) == std::future_status::ready);
}

}  // namespace
