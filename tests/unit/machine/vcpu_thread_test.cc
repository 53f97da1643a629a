#include "vmm/machine/vcpu_thread.h"

#include <pthread.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <string>

#include "fake_vcpu.h"

namespace vmm::test {
namespace {

using State = VcpuThread::State;

std::optional<RunResult> Busy(FakeVcpu&) {
  std::this_thread::yield();
  return {};
}

TEST_CASE("A vCPU thread starts parked, runs when resumed and parks on request", "[threads]") {
  std::atomic<unsigned> steps{0};
  FakeVcpu vcpu(0, [&](FakeVcpu& cpu) {
    ++steps;
    return Busy(cpu);
  });
  VcpuThread thread(0, vcpu, [](unsigned, const RunResult&) {});
  CHECK(thread.state() == State::kCreated);
  REQUIRE(thread.Start());
  thread.WaitPaused();
  CHECK(thread.state() == State::kPaused);
  CHECK(steps == 0);

  thread.Resume();
  while (steps == 0) std::this_thread::yield();
  thread.RequestPause();
  thread.WaitPaused();
  CHECK(thread.state() == State::kPaused);
  const unsigned seen = steps;
  std::this_thread::sleep_for(std::chrono::milliseconds(2));
  CHECK(steps == seen);

  thread.Stop();
  CHECK(thread.state() == State::kStopped);
  thread.Stop();
}

TEST_CASE("A vCPU thread bears the vCPU's name", "[threads]") {
  std::string name;
  FakeVcpu vcpu(3, Busy);
  VcpuThread thread(3, vcpu, [](unsigned, const RunResult&) {});
  REQUIRE(thread.Start());
  thread.Call([&](Vcpu&) {
    char text[16];
    pthread_getname_np(pthread_self(), text, sizeof text);
    name = text;
  });
  CHECK(name == "vcpu3");
}

TEST_CASE("A vCPU thread that was never started, or is destroyed while it runs, ends",
          "[threads]") {
  FakeVcpu vcpu(0, Busy);
  {
    VcpuThread never_started(0, vcpu, [](unsigned, const RunResult&) {});
  }
  VcpuThread running(0, vcpu, [](unsigned, const RunResult&) {});
  REQUIRE(running.Start());
  running.Resume();
}

TEST_CASE("Work for a parked vCPU is done on its own thread", "[threads]") {
  FakeVcpu vcpu(0, Busy);
  VcpuThread thread(0, vcpu, [](unsigned, const RunResult&) {});
  REQUIRE(thread.Start());
  std::thread::id first, second;
  thread.Call([&](Vcpu&) { first = std::this_thread::get_id(); });
  thread.Resume();
  thread.RequestPause();
  thread.Call([&](Vcpu& target) {
    second = std::this_thread::get_id();
    CHECK(target.Load(CpuState{}));
  });
  CHECK(first == second);
  CHECK(first != std::this_thread::get_id());
  CHECK(vcpu.loads() == 1);
}

TEST_CASE("After a final exit the thread tells the machine once and parks", "[threads]") {
  for (const RunExit exit : {RunExit::kShutdown, RunExit::kFailed, RunExit::kDebug}) {
    std::atomic<unsigned> told{0};
    RunExit seen = RunExit::kInterrupted;
    FakeVcpu vcpu(0, [&](FakeVcpu&) { return RunResult{exit, "why"}; });
    VcpuThread thread(0, vcpu, [&](unsigned id, const RunResult& result) {
      CHECK(id == 0);
      CHECK(result.detail == "why");
      seen = result.exit;
      ++told;
    });
    REQUIRE(thread.Start());
    thread.Resume();
    while (told == 0) std::this_thread::yield();
    thread.WaitPaused();
    CHECK(thread.state() == State::kPaused);
    CHECK(seen == exit);
    CHECK(told == 1);
  }
}

TEST_CASE("A halted vCPU is told of once and stays inside Run, where NMI and INIT reach it",
          "[threads]") {
  std::atomic<unsigned> told{0};
  FakeVcpu vcpu(0, [&](FakeVcpu&) { return RunResult{RunExit::kHalted, ""}; });
  VcpuThread thread(0, vcpu, [&](unsigned, const RunResult& result) {
    CHECK(result.exit == RunExit::kHalted);
    ++told;
  });
  REQUIRE(thread.Start());
  thread.Resume();
  while (told == 0) std::this_thread::yield();
  std::this_thread::sleep_for(std::chrono::milliseconds(2));
  CHECK(thread.state() == State::kRunning);
  CHECK(told == 1);
}

TEST_CASE("A pause asked for on the vCPU's own thread takes effect at once", "[threads]") {
  VcpuThread* self = nullptr;
  std::atomic<unsigned> steps{0};
  FakeVcpu vcpu(0, [&](FakeVcpu&) -> std::optional<RunResult> {
    ++steps;
    self->RequestPause();
    return {};
  });
  VcpuThread thread(0, vcpu, [](unsigned, const RunResult&) {});
  self = &thread;
  REQUIRE(thread.Start());
  for (unsigned round = 1; round <= 3; ++round) {
    thread.Resume();
    while (steps < round) std::this_thread::yield();
    thread.WaitPaused();
    CHECK(steps == round);
  }
}

TEST_CASE("Pauses and resumes from several threads leave the vCPU in a state that Stop ends",
          "[threads]") {
  FakeVcpu vcpu(0, Busy);
  VcpuThread thread(0, vcpu, [](unsigned, const RunResult&) {});
  REQUIRE(thread.Start());
  std::vector<std::thread> others;
  for (int i = 0; i < 3; ++i) {
    others.emplace_back([&, i] {
      for (int round = 0; round < 200; ++round) {
        if (i == 0) {
          thread.Resume();
        } else {
          thread.RequestPause();
          if (i == 1) thread.WaitPaused();
        }
      }
    });
  }
  for (std::thread& other : others) other.join();
  thread.RequestPause();
  thread.WaitPaused();
  CHECK(thread.state() == State::kPaused);
  thread.Resume();
  thread.Stop();
  CHECK(thread.state() == State::kStopped);
}

TEST_CASE("The CPU time of a vCPU thread grows while it computes", "[threads]") {
  FakeVcpu vcpu(0, [](FakeVcpu&) { return std::optional<RunResult>{}; });
  VcpuThread thread(0, vcpu, [](unsigned, const RunResult&) {});
  CHECK(thread.CpuTime().count() == 0);
  REQUIRE(thread.Start());
  thread.Resume();
  const auto before = thread.CpuTime();
  while (thread.CpuTime() == before) std::this_thread::yield();
  thread.Stop();
  CHECK(thread.CpuTime().count() == 0);
}

}  // namespace
}  // namespace vmm::test
