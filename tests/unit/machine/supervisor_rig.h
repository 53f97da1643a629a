// A supervisor with what it needs, for its tests.
#pragma once

#include <atomic>
#include <catch2/catch.hpp>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "fake_vcpu.h"
#include "vmm/core/time/host_clock.h"
#include "vmm/machine/supervisor.h"

namespace vmm::test {

// A machine of fake vCPUs and nothing else: the guest is a function a CPU.
struct SupervisorRig {
  Config config;
  HostClock clock{TscFrequency{1'000'000'000, TscFrequency::Source::kSynthetic}};
  std::unique_ptr<EventLoop> loop = std::move(*EventLoop::Create(clock));
  VcpuSet vcpus;
  std::vector<FakeVcpu*> cpus;
  std::unique_ptr<Supervisor> supervisor;
  std::atomic<unsigned> resets{0}, presses{0};
  Result<void> reset_result;
  std::function<Result<void>()> save, move;

  explicit SupervisorRig(std::vector<FakeVcpu::Step> guest) {
    for (unsigned id = 0; id < guest.size(); ++id) {
      auto cpu = std::make_unique<FakeVcpu>(id, std::move(guest[id]));
      cpus.push_back(cpu.get());
      vcpus.Add(std::move(cpu), [this](unsigned cpu_id, const RunResult& result) {
        supervisor->OnVcpuExit(cpu_id, result);
      });
    }
  }
  ~SupervisorRig() { vcpus.Stop(); }

  Verdict Run() {
    auto made = Supervisor::Create(
        {config, *loop, clock, vcpus},
        {[this] {
           ++resets;
           for (unsigned id = 0; id < vcpus.size(); ++id) {
             vcpus.Call(id, [](Vcpu& cpu) { cpu.Load(CpuState{}); });
           }
           return reset_result;
         },
         [this] { ++presses; }, [this] { return save ? save() : Result<void>(); },
         [this](bool) {
           if (move) return move();
           return Result<void>(Fail(ExitCode::kEngineUnavailable, "there is no other"));
         }});
    REQUIRE(made);
    supervisor = std::move(*made);
    REQUIRE(vcpus.Start());
    const Verdict verdict = supervisor->Run();
    CHECK(vcpus.held());
    return verdict;
  }
  int RunForCode() { return static_cast<int>(Run().code); }

  void Print(std::string_view text) {
    supervisor->OnConsoleOutput(
        0, std::span(reinterpret_cast<const uint8_t*>(text.data()), text.size()));
  }
};

inline std::optional<RunResult> Idle(FakeVcpu& cpu) {
  cpu.SleepUntilKicked();
  return {};
}
inline std::optional<RunResult> Halt(FakeVcpu&) {
  return RunResult{RunExit::kHalted, ""};
}

}  // namespace vmm::test
