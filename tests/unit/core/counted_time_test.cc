// Instruction-counted time: turns, timers at their nanosecond, inputs recorded and replayed.
#include "vmm/core/time/counted_time.h"

#include <catch2/catch.hpp>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

using namespace vmm;

namespace {

// A processor whose program is a function that is called for each instruction.
struct Walker final : CountedVcpu {
  uint64_t Retired() const override { return retired; }
  bool HasEvents() const override { return events.load(); }
  void ShortenTurn() override { shortened = true; }

  // One turn on the calling thread. False: interrupted.
  bool Turn(CountedTime& time, unsigned id) {
    const uint64_t budget = time.BeginTurn(id);
    if (budget == 0) return false;
    budgets.push_back(budget);
    events = false;
    shortened = false;
    const uint64_t end = retired + budget;
    while (retired < end && !shortened && !sleeping) {
      if (instruction) instruction();
      ++retired;
    }
    time.EndTurn(id, sleeping);
    return true;
  }

  uint64_t retired = 0;
  std::atomic<bool> events{false};
  bool shortened = false, sleeping = false;
  std::function<void()> instruction;
  std::vector<uint64_t> budgets;
};

struct OneCpu {
  OneCpu() { time.SetVcpu(0, &cpu); }
  CountedTime time{1};
  Walker cpu;
};

}  // namespace

TEST_CASE("counted time is exact within a turn") {
  OneCpu one;
  std::vector<int64_t> seen;
  one.cpu.instruction = [&] {
    if (one.cpu.retired % 2500 == 0) seen.push_back(one.time.Now().count());
  };
  CHECK(one.cpu.Turn(one.time, 0));
  CHECK(seen == std::vector<int64_t>{0, 2500, 5000, 7500});
  CHECK(one.time.Now().count() == CountedTime::kTurn);
  CHECK(one.time.position() == CountedTime::kTurn);
  CHECK(one.time.WallTime() - one.time.Now() == CountedTime::kEpoch);
}

TEST_CASE("a timer expires exactly at its nanosecond, also one that is armed within the turn") {
  OneCpu one;
  std::vector<int64_t> expired;
  auto timer = one.time.NewTimer([&] { expired.push_back(one.time.Now().count()); });
  timer->Arm(Nanoseconds(1234));
  one.cpu.Turn(one.time, 0);
  CHECK(one.cpu.budgets.back() == 1234);
  one.cpu.instruction = [&] {
    if (one.time.Now().count() == 2000) timer->Arm(Nanoseconds(2003));
  };
  one.cpu.Turn(one.time, 0);  // ends after the instruction that armed it
  CHECK(expired == std::vector<int64_t>{1234});
  CHECK(one.time.Now().count() == 2001);
  one.cpu.Turn(one.time, 0);
  one.cpu.Turn(one.time, 0);
  CHECK(expired == std::vector<int64_t>{1234, 2003});
}

TEST_CASE("a timer that is armed for the past expires after the instruction that armed it") {
  OneCpu one;
  int64_t expired = -1;
  auto timer = one.time.NewTimer([&] { expired = one.time.Now().count(); });
  one.cpu.instruction = [&] {
    if (one.cpu.retired == 10) timer->Arm(Nanoseconds(3));
  };
  one.cpu.Turn(one.time, 0);
  one.cpu.Turn(one.time, 0);
  CHECK(expired == 11);
}

TEST_CASE("a disarmed or destroyed timer does not expire") {
  OneCpu one;
  int expired = 0;
  auto first = one.time.NewTimer([&] { ++expired; });
  auto second = one.time.NewTimer([&] { ++expired; });
  first->Arm(Nanoseconds(5));
  second->Arm(Nanoseconds(5));
  first->Disarm();
  second.reset();
  one.cpu.Turn(one.time, 0);
  one.cpu.Turn(one.time, 0);
  CHECK(expired == 0);
}

TEST_CASE("when all sleep, time jumps to the next timer and wakes who was waiting") {
  OneCpu one;
  auto timer = one.time.NewTimer([&] { one.cpu.events = true; });
  timer->Arm(Nanoseconds(5'000'000));
  one.cpu.sleeping = true;
  one.cpu.Turn(one.time, 0);
  CHECK(one.time.Now().count() == 0);
  one.cpu.sleeping = false;
  one.cpu.Turn(one.time, 0);
  CHECK(one.time.Now().count() == 5'000'000 + CountedTime::kTurn);
  CHECK(one.time.position() == CountedTime::kTurn);  // nothing was executed meanwhile
}

TEST_CASE("interrupting a processor gives it an empty turn once") {
  OneCpu one;
  one.time.Interrupt(0);
  CHECK_FALSE(one.cpu.Turn(one.time, 0));
  CHECK(one.cpu.Turn(one.time, 0));
}

TEST_CASE("a processor that leaves early keeps what is left of its turn") {
  OneCpu one;
  one.cpu.instruction = [&] { one.cpu.shortened = one.cpu.retired == 99; };
  one.cpu.Turn(one.time, 0);
  one.cpu.Turn(one.time, 0);
  CHECK(one.cpu.budgets == std::vector<uint64_t>{CountedTime::kTurn, CountedTime::kTurn - 100});
}

TEST_CASE("steps come at every multiple of their interval") {
  OneCpu one;
  std::vector<uint64_t> steps;
  one.time.OnStep(3000, [&](uint64_t position) { steps.push_back(position); });
  for (int i = 0; i < 5; ++i) one.cpu.Turn(one.time, 0);
  CHECK(steps == std::vector<uint64_t>{3000, 6000, 9000, 12000});
}

TEST_CASE("inputs reach the guest between turns, and again at the same time when replayed") {
  std::vector<MachineInput> log;
  {
    OneCpu one;
    one.time.OnInput([&](const MachineInput& input) { log.push_back(input); });
    one.time.Post(2, "before");
    one.cpu.Turn(one.time, 0);
    one.cpu.instruction = [&] {
      if (one.cpu.retired == 15'000) one.time.Post(0, "x");
    };
    one.cpu.Turn(one.time, 0);
    one.cpu.Turn(one.time, 0);
  }
  REQUIRE(log.size() == 2);
  CHECK(log[0].at.count() == 0);
  CHECK(log[0].source == 2);
  CHECK(log[1].at.count() == 20'000);

  OneCpu two;
  std::vector<MachineInput> again;
  two.time.OnInput([&](const MachineInput& input) { again.push_back(input); });
  log[1].at = Nanoseconds(12'345);  // not the end of a turn
  two.time.Replay(log);
  two.time.Post(1, "ignored");
  for (int i = 0; i < 4; ++i) two.cpu.Turn(two.time, 0);
  REQUIRE(again.size() == 2);
  CHECK(again[1].at.count() == 12'345);
  CHECK(again[1].bytes == "x");
}

TEST_CASE("what was posted and has not reached the guest can be asked for, by its source") {
  OneCpu one;
  one.time.OnInput([](const MachineInput&) {});
  one.time.Post(0, "ab");
  one.time.Post(2, "x");
  one.time.Post(0, "c");
  CHECK(one.time.Posted(0) == "abc");
  CHECK(one.time.Posted(2) == "x");
  CHECK(one.time.Posted(1).empty());
  one.cpu.Turn(one.time, 0);
  CHECK(one.time.Posted(0).empty());
}

TEST_CASE("processors take turns; one that sleeps is passed over", "[threads]") {
  CountedTime time(3);
  Walker cpus[3];
  std::vector<unsigned> order;
  for (unsigned id = 0; id < 3; ++id) {
    time.SetVcpu(id, &cpus[id]);
    cpus[id].instruction = [&, id] {  // only one of them is ever here: no lock
      if (cpus[id].retired % CountedTime::kTurn == 0) order.push_back(id);
    };
  }
  cpus[1].sleeping = true;
  std::vector<std::thread> threads;
  for (unsigned id = 0; id < 3; ++id) {
    threads.emplace_back([&, id] {
      for (int i = 0; i < (id == 1 ? 1 : 4); ++i) cpus[id].Turn(time, id);
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(order == std::vector<unsigned>{0, 2, 0, 2, 0, 2, 0, 2});
  CHECK(time.position() == 8 * CountedTime::kTurn);
}
