#include "vmm/machine/supervisor.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <thread>

#include "supervisor_rig.h"

namespace vmm::test {
namespace {

using namespace std::chrono_literals;
using Rig = SupervisorRig;

constexpr uint64_t kRflagsIf = 1u << 9;

TEST_CASE("A guest that powers off ends the run with 0, and executes nothing more", "[threads]") {
  Rig* rig = nullptr;
  std::atomic<unsigned> writes{0};
  Rig machine({[&](FakeVcpu&) -> std::optional<RunResult> {
                 ++writes;
                 rig->supervisor->OnPowerOff();
                 return {};
               },
               Idle});
  rig = &machine;
  CHECK(machine.RunForCode() == 0);
  CHECK(writes == 1);
}

TEST_CASE("The debug-exit port gives 0 or 80 and keeps the value", "[threads]") {
  for (const uint32_t value : {0u, 1u, 255u}) {
    Rig* rig = nullptr;
    Rig machine({[&](FakeVcpu&) -> std::optional<RunResult> {
      rig->supervisor->OnDebugExit(value);
      return {};
    }});
    rig = &machine;
    const Verdict verdict = machine.Run();
    CHECK(static_cast<int>(verdict.code) == (value == 0 ? 0 : 80));
    CHECK(verdict.guest_value == value);
  }
}

TEST_CASE("A triple fault gives 82 and a failed engine 100", "[threads]") {
  Rig shutdown({[](FakeVcpu&) { return RunResult{RunExit::kShutdown, ""}; }, Idle});
  CHECK(shutdown.RunForCode() == 82);
  Rig failed({Idle, [](FakeVcpu&) { return RunResult{RunExit::kFailed, "bad state"}; }});
  const Verdict verdict = failed.Run();
  CHECK(static_cast<int>(verdict.code) == 100);
  CHECK(verdict.reason.find("bad state") != std::string::npos);
  CHECK(verdict.reason.find("vCPU 1") != std::string::npos);
}

TEST_CASE("A guest whose processors are all halted with interrupts off hangs: 83", "[threads]") {
  Rig one({Halt});
  CHECK(one.RunForCode() == 83);
  Rig two({Halt, Halt});
  CHECK(two.RunForCode() == 83);
  Rig never_started({Halt, Idle});
  never_started.cpus[1]->cpu_state().activity = Activity::kWaitForSipi;
  CHECK(never_started.RunForCode() == 83);
}

TEST_CASE("A hang is found under an engine that does not tell of halted processors", "[threads]") {
  Rig machine({Idle});
  machine.cpus[0]->cpu_state().activity = Activity::kHalted;
  CHECK(machine.RunForCode() == 83);
}

TEST_CASE("A guest with one processor that can still be woken does not hang", "[threads]") {
  Rig machine({Halt, Idle});
  machine.cpus[1]->cpu_state().activity = Activity::kHalted;
  machine.cpus[1]->cpu_state().rflags |= kRflagsIf;
  machine.config.limits.wall = 150ms;
  CHECK(machine.RunForCode() == 84);
}

TEST_CASE("The wall limit ends the run with 84, a silent guest with 85", "[threads]") {
  Rig wall({Idle});
  wall.config.limits.wall = 5ms;
  CHECK(wall.RunForCode() == 84);

  Rig silent({Idle});
  silent.config.limits.idle = 5ms;
  CHECK(silent.RunForCode() == 85);

  Rig* rig = nullptr;
  Rig talking({[&](FakeVcpu&) -> std::optional<RunResult> {
    rig->Print("x");
    std::this_thread::yield();
    return {};
  }});
  rig = &talking;
  talking.config.limits.idle = 300ms;  // a busy host may not let it talk for a while
  talking.config.limits.wall = 900ms;
  CHECK(talking.RunForCode() == 84);
}

TEST_CASE("A reset starts all processors again; with on_reboot = exit it ends the run: 86",
          "[threads]") {
  for (const OnReboot policy : {OnReboot::kReset, OnReboot::kExit}) {
    Rig* rig = nullptr;
    Rig machine({[&](FakeVcpu&) -> std::optional<RunResult> {
                   if (rig->resets < 3) {
                     rig->supervisor->OnResetRequest("port 0xCF9");
                   } else {
                     rig->supervisor->OnPowerOff();
                   }
                   return {};
                 },
                 Idle});
    rig = &machine;
    machine.config.on_reboot = policy;
    if (policy == OnReboot::kReset) {
      CHECK(machine.RunForCode() == 0);
      CHECK(machine.resets == 3);
      CHECK(machine.cpus[1]->loads() == 3);
    } else {
      CHECK(machine.RunForCode() == 86);
      CHECK(machine.resets == 0);
    }
  }
}

TEST_CASE("When processors ask for different ends at once, one decides, and a reset is done once",
          "[threads]") {
  for (int round = 0; round < 20; ++round) {
    Rig* rig = nullptr;
    const auto racer = [&](FakeVcpu&) -> std::optional<RunResult> {
      if (rig->resets == 0) {
        rig->supervisor->OnResetRequest("port 0x92");
      } else {
        rig->supervisor->OnDebugExit(7);
      }
      return {};
    };
    Rig machine({racer, racer, racer, racer});
    rig = &machine;
    CHECK(machine.RunForCode() == 80);
    CHECK(machine.resets == 1);
  }
}

TEST_CASE("A reset that fails ends the run with the failure's code", "[threads]") {
  Rig* rig = nullptr;
  Rig machine({[&](FakeVcpu&) -> std::optional<RunResult> {
    rig->supervisor->OnResetRequest("i8042");
    return {};
  }});
  rig = &machine;
  machine.reset_result = Fail(ExitCode::kFileMissing, "kernel x: gone");
  const Verdict verdict = machine.Run();
  CHECK(verdict.code == ExitCode::kFileMissing);
  CHECK(verdict.reason.find("kernel x: gone") != std::string::npos);
}

TEST_CASE("A panic gives 81 with the message, whether the kernel then loops, resets or ends",
          "[threads]") {
  for (int way = 0; way < 4; ++way) {
    Rig* rig = nullptr;
    bool printed = false;
    Rig machine({[&](FakeVcpu& cpu) -> std::optional<RunResult> {
      if (!std::exchange(printed, true)) {
        rig->Print("[    1.0] Kernel panic - not syncing: VFS\n");
        return {};
      }
      if (way == 0) return Idle(cpu);
      if (way == 1) rig->supervisor->OnResetRequest("port 0xCF9");
      if (way == 2) rig->Print("---[ end Kernel panic - not syncing: VFS ]---\n");
      if (way == 3) rig->supervisor->OnPvPanic();
      return way == 2 ? Idle(cpu) : std::nullopt;
    }});
    rig = &machine;
    const auto start = std::chrono::steady_clock::now();
    const Verdict verdict = machine.Run();
    CHECK(static_cast<int>(verdict.code) == 81);
    CHECK(verdict.reason == "Kernel panic - not syncing: VFS");
    CHECK(std::chrono::steady_clock::now() - start < 1s);
    CHECK_FALSE(machine.supervisor->LastConsoleLines().empty());
  }
}

TEST_CASE("on_panic = reset runs the guest again", "[threads]") {
  Rig* rig = nullptr;
  Rig machine({[&](FakeVcpu&) -> std::optional<RunResult> {
    if (rig->resets == 0) {
      rig->supervisor->OnPvPanic();
    } else {
      rig->supervisor->OnPowerOff();
    }
    return {};
  }});
  rig = &machine;
  machine.config.on_panic = OnPanic::kReset;
  CHECK(machine.RunForCode() == 0);
  CHECK(machine.resets == 1);
}

TEST_CASE("on_panic = pause holds the guest and stops its clock until somebody stops the machine",
          "[threads]") {
  Rig* rig = nullptr;
  Rig machine({[&](FakeVcpu&) -> std::optional<RunResult> {
    rig->supervisor->OnPvPanic();
    return {};
  }});
  rig = &machine;
  machine.config.on_panic = OnPanic::kPause;
  machine.config.limits.wall = 50ms;
  CHECK(machine.RunForCode() == 84);
  CHECK(machine.vcpus.held());
  CHECK_FALSE(machine.clock.running());
}

TEST_CASE("A stop presses the power button first; a second one, or the grace time, ends by force",
          "[threads]") {
  Rig* rig = nullptr;
  bool asked = false;
  const auto ask = [&](FakeVcpu& cpu) -> std::optional<RunResult> {
    if (!std::exchange(asked, true)) rig->supervisor->RequestStop("SIGTERM");
    return Idle(cpu);
  };
  Rig deaf({ask});
  rig = &deaf;
  deaf.config.stop_timeout = 10ms;
  CHECK(deaf.RunForCode() == 87);
  CHECK(deaf.presses == 1);

  asked = false;
  Rig at_once({ask});
  rig = &at_once;
  at_once.config.stop_timeout = 0ms;
  CHECK(at_once.RunForCode() == 87);
  CHECK(at_once.presses == 0);

  Rig obedient({[&](FakeVcpu&) -> std::optional<RunResult> {
    if (rig->presses == 0) {
      rig->supervisor->RequestStop("SIGTERM");
      while (rig->presses == 0) std::this_thread::yield();
    }
    rig->supervisor->OnPowerOff();
    return {};
  }});
  rig = &obedient;
  CHECK(obedient.RunForCode() == 0);

  unsigned times = 0;
  Rig twice({[&](FakeVcpu& cpu) -> std::optional<RunResult> {
    if (times++ < 2) {
      rig->supervisor->RequestStop("SIGTERM");
      return {};
    }
    return Idle(cpu);
  }});
  rig = &twice;
  CHECK(twice.RunForCode() == 87);
  CHECK(twice.presses == 1);

  asked = false;
  Rig forced({[&](FakeVcpu& cpu) -> std::optional<RunResult> {
    if (!std::exchange(asked, true)) rig->supervisor->StopNow("Ctrl-A x");
    return Idle(cpu);
  }});
  rig = &forced;
  CHECK(forced.RunForCode() == 87);
  CHECK(forced.presses == 0);
}

TEST_CASE("A pause from outside stops the guest and its clock, a resume lets both go on",
          "[threads]") {
  std::atomic<unsigned> steps{0};
  Rig machine({[&](FakeVcpu&) -> std::optional<RunResult> {
    ++steps;
    std::this_thread::yield();
    return {};
  }});
  std::thread admin([&] {
    while (steps == 0) std::this_thread::yield();
    machine.supervisor->Pause();
    while (machine.clock.running()) std::this_thread::yield();
    const unsigned seen = steps;
    const auto time = machine.clock.Now();
    std::this_thread::sleep_for(3ms);
    const bool stood_still = steps == seen && machine.clock.Now() == time;
    machine.supervisor->Pause();
    machine.supervisor->Resume();
    while (steps == seen) std::this_thread::yield();
    machine.supervisor->Resume();
    machine.supervisor->Reset();
    while (machine.resets == 0) std::this_thread::yield();
    machine.supervisor->OnDebugExit(stood_still ? 0 : 1);
  });
  CHECK(machine.RunForCode() == 0);
  admin.join();
}

TEST_CASE("A suspended machine was saved while it stood still, and ends with 88", "[threads]") {
  std::atomic<unsigned> steps{0};
  Rig machine({[&](FakeVcpu&) -> std::optional<RunResult> {
    ++steps;
    std::this_thread::yield();
    return {};
  }});
  machine.config.suspend_file = "state";
  bool stood_still = false;
  machine.save = [&]() -> Result<void> {
    const unsigned seen = steps;
    std::this_thread::sleep_for(3ms);
    stood_still = !machine.clock.running() && steps == seen;
    return {};
  };
  std::thread admin([&] {
    while (steps == 0) std::this_thread::yield();
    machine.supervisor->Suspend("the test");
  });
  const Verdict verdict = machine.Run();
  admin.join();
  CHECK(verdict.code == ExitCode::kSuspended);
  CHECK(verdict.reason == "suspended to state by the test");
  CHECK(stood_still);
}

TEST_CASE("A guest that can't be saved goes on, and its clock too", "[threads]") {
  std::atomic<unsigned> steps{0};
  Rig machine({[&](FakeVcpu&) -> std::optional<RunResult> {
    ++steps;
    std::this_thread::yield();
    return {};
  }});
  machine.config.suspend_file = "state";
  std::atomic<unsigned> saves{0};
  machine.save = [&] {
    ++saves;
    return Result<void>(Fail(ExitCode::kIoError, "the disk is full"));
  };
  std::thread admin([&] {
    while (steps == 0) std::this_thread::yield();
    machine.supervisor->Suspend("the test");
    while (saves == 0) std::this_thread::yield();
    const unsigned seen = steps;
    while (steps == seen || !machine.clock.running()) std::this_thread::yield();
    machine.supervisor->OnDebugExit(0);
  });
  CHECK(machine.RunForCode() == 0);
  admin.join();
}

TEST_CASE("What the guest did before it was suspended is decided first", "[threads]") {
  Rig* rig = nullptr;
  bool done = false;
  Rig machine({[&](FakeVcpu& cpu) -> std::optional<RunResult> {
    if (std::exchange(done, true)) return Idle(cpu);
    rig->supervisor->Suspend("the test");
    rig->supervisor->OnPowerOff();
    return {};
  }});
  rig = &machine;
  machine.config.suspend_file = "state";
  CHECK(machine.RunForCode() == 0);
}

TEST_CASE("A failure of the engine moves the machine where it may, and ends it where not",
          "[threads]") {
  for (const bool may_move : {true, false}) {
    unsigned moves = 0;
    bool failed = false;
    Rig* rig = nullptr;
    Rig machine({[&](FakeVcpu& cpu) -> std::optional<RunResult> {
      if (!std::exchange(failed, true)) return RunResult{RunExit::kFailed, "it is broken"};
      rig->supervisor->OnDebugExit(0);
      return Idle(cpu);
    }});
    rig = &machine;
    machine.config.accel_move = may_move;
    machine.move = [&]() -> Result<void> {
      CHECK_FALSE(machine.clock.running());
      ++moves;
      return {};
    };
    CHECK(machine.RunForCode() == (may_move ? 0 : 100));
    CHECK(moves == (may_move ? 1 : 0));
  }
}

TEST_CASE("A move that fails leaves the guest where it is", "[threads]") {
  std::atomic<unsigned> steps{0}, moves{0};
  Rig machine({[&](FakeVcpu&) -> std::optional<RunResult> {
    ++steps;
    std::this_thread::yield();
    return {};
  }});
  machine.move = [&] {
    ++moves;
    return Result<void>(Fail(ExitCode::kEngineUnavailable, "there is no other"));
  };
  std::thread admin([&] {
    while (steps == 0) std::this_thread::yield();
    machine.supervisor->Move("the test");
    while (moves == 0) std::this_thread::yield();
    const unsigned seen = steps;
    while (steps == seen || !machine.clock.running()) std::this_thread::yield();
    machine.supervisor->OnDebugExit(0);
  });
  CHECK(machine.RunForCode() == 0);
  admin.join();
}

TEST_CASE("Two complaints about one engine make one move", "[threads]") {
  unsigned moves = 0;
  bool failed = false;
  Rig* rig = nullptr;
  Rig machine({[&](FakeVcpu& cpu) -> std::optional<RunResult> {
    if (!std::exchange(failed, true)) {
      rig->supervisor->LeaveEngine("it is slow");
      rig->supervisor->LeaveEngine("it is slow");
      return RunResult{RunExit::kFailed, "it is broken"};
    }
    rig->supervisor->OnDebugExit(0);
    return Idle(cpu);
  }});
  rig = &machine;
  machine.config.accel_move = true;
  machine.move = [&]() -> Result<void> {
    ++moves;
    return {};
  };
  CHECK(machine.RunForCode() == 0);
  CHECK(moves == 1);
}

}  // namespace
}  // namespace vmm::test
