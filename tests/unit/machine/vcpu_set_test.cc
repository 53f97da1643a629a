#include "vmm/machine/vcpu_set.h"

#include <atomic>
#include <catch2/catch.hpp>

#include "fake_vcpu.h"

namespace vmm::test {
namespace {

struct Set {
  std::array<std::atomic<unsigned>, 2> steps{};
  VcpuSet set;

  explicit Set(FakeVcpu::Step step = {}) {
    for (unsigned id = 0; id < 2; ++id) {
      set.Add(std::make_unique<FakeVcpu>(id,
                                         [this, step](FakeVcpu& cpu) -> std::optional<RunResult> {
                                           ++steps[cpu.id()];
                                           std::this_thread::yield();
                                           return step ? step(cpu) : std::nullopt;
                                         }),
              [](unsigned, const RunResult&) {});
    }
  }
  void AwaitSteps() {
    const unsigned before[] = {steps[0], steps[1]};
    while (steps[0] == before[0] || steps[1] == before[1]) std::this_thread::yield();
  }
};

TEST_CASE("The vCPUs run only while nobody holds them", "[threads]") {
  Set cpus;
  REQUIRE(cpus.set.Start());
  CHECK(cpus.set.held());
  cpus.set.Hold();
  cpus.set.Release();
  cpus.set.WaitParked();
  CHECK(cpus.steps[0] + cpus.steps[1] == 0);
  cpus.set.Release();
  CHECK_FALSE(cpus.set.held());
  cpus.AwaitSteps();

  cpus.set.Hold();
  cpus.set.WaitParked();
  const unsigned total = cpus.steps[0] + cpus.steps[1];
  std::this_thread::sleep_for(std::chrono::milliseconds(2));
  CHECK(cpus.steps[0] + cpus.steps[1] == total);
  cpus.set.Release();
  cpus.AwaitSteps();
}

TEST_CASE("A hold by a vCPU itself stops it before its next instruction, and the others too",
          "[threads]") {
  VcpuSet* set = nullptr;
  std::atomic<unsigned> writes{0};
  Set cpus([&](FakeVcpu& cpu) -> std::optional<RunResult> {
    if (cpu.id() == 0) {
      set->Hold();
      ++writes;
    }
    return {};
  });
  set = &cpus.set;
  REQUIRE(cpus.set.Start());
  for (unsigned round = 1; round <= 20; ++round) {
    cpus.set.Release();
    while (writes < round) std::this_thread::yield();
    cpus.set.WaitParked();
    CHECK(writes == round);
    CHECK(cpus.set.held());
  }
}

TEST_CASE("A machine whose vCPUs are held, running or not started ends cleanly", "[threads]") {
  for (int way = 0; way < 3; ++way) {
    Set cpus;
    if (way > 0) REQUIRE(cpus.set.Start());
    if (way > 1) {
      cpus.set.Release();
      cpus.AwaitSteps();
    }
    cpus.set.Stop();
    cpus.set.Stop();
  }
}

TEST_CASE("Holds from several threads at once balance out", "[threads]") {
  Set cpus;
  REQUIRE(cpus.set.Start());
  cpus.set.Release();
  std::vector<std::thread> others;
  for (int i = 0; i < 3; ++i) {
    others.emplace_back([&] {
      for (int round = 0; round < 200; ++round) {
        cpus.set.Hold();
        cpus.set.Release();
      }
    });
  }
  for (std::thread& other : others) other.join();
  CHECK_FALSE(cpus.set.held());
  cpus.AwaitSteps();
}

}  // namespace
}  // namespace vmm::test
