#include "vmm/machine/power_state.h"

#include <catch2/catch.hpp>

namespace vmm {
namespace {

using Action = PowerState::Action;

PowerState Default() {
  return PowerState(OnReboot::kReset, OnPanic::kExit);
}

TEST_CASE("Each final event has its exit code") {
  const auto code_after = [](auto event) {
    PowerState power = Default();
    CHECK(event(power) == Action::kEnd);
    REQUIRE(power.ended());
    CHECK_FALSE(power.verdict().reason.empty());
    return static_cast<int>(power.verdict().code);
  };
  CHECK(code_after([](PowerState& p) { return p.OnPowerOff(); }) == 0);
  CHECK(code_after([](PowerState& p) { return p.OnDebugExit(0); }) == 0);
  CHECK(code_after([](PowerState& p) { return p.OnDebugExit(1); }) == 80);
  CHECK(code_after([](PowerState& p) { return p.OnTripleFault(1); }) == 82);
  CHECK(code_after([](PowerState& p) { return p.OnHang(); }) == 83);
  CHECK(code_after([](PowerState& p) { return p.OnLimit(Limit::kWall, "10 s"); }) == 84);
  CHECK(code_after([](PowerState& p) { return p.OnLimit(Limit::kIdle, "10 s"); }) == 85);
  CHECK(code_after([](PowerState& p) { return p.OnStop("SIGTERM"); }) == 87);
  CHECK(code_after([](PowerState& p) { return p.OnEngineFailed(0, "no"); }) == 100);
}

TEST_CASE("The value of the debug-exit port is kept as it was written") {
  PowerState power = Default();
  power.OnDebugExit(0x1234);
  CHECK(power.verdict().guest_value == 0x1234);
}

TEST_CASE("A reset ends the run only with on_reboot = exit") {
  PowerState again = Default();
  CHECK(again.OnResetRequest("port 0xCF9") == Action::kReset);
  CHECK_FALSE(again.ended());

  PowerState once(OnReboot::kExit, OnPanic::kExit);
  CHECK(once.OnResetRequest("port 0xCF9") == Action::kEnd);
  CHECK(once.verdict().code == ExitCode::kGuestReset);
  CHECK(once.verdict().reason.find("0xCF9") != std::string::npos);
}

TEST_CASE("The first final event decides") {
  PowerState power = Default();
  CHECK(power.OnPowerOff() == Action::kEnd);
  CHECK(power.OnDebugExit(3) == Action::kGoOn);
  CHECK(power.OnStop("SIGTERM") == Action::kGoOn);
  CHECK(power.OnResetRequest("i8042") == Action::kGoOn);
  CHECK(power.OnTripleFault(0) == Action::kGoOn);
  CHECK(power.verdict().code == ExitCode::kSuccess);
  CHECK_FALSE(power.verdict().guest_value);
}

TEST_CASE("A panic ends the run once the kernel has said all") {
  PowerState power = Default();
  CHECK(power.OnPanicSettled() == Action::kGoOn);
  CHECK(power.OnPanicSeen("Kernel panic - not syncing: test") == Action::kGoOn);
  CHECK_FALSE(power.ended());
  CHECK(power.OnPanicSettled() == Action::kEnd);
  CHECK(power.verdict().code == ExitCode::kGuestPanic);
  CHECK(power.verdict().reason == "Kernel panic - not syncing: test");
}

TEST_CASE("A reset, a power-off, a triple fault or a hang after a panic is the panic's end") {
  for (int way = 0; way < 4; ++way) {
    PowerState power = Default();
    power.OnPanicSeen("Kernel panic");
    CHECK((way == 0   ? power.OnResetRequest("port 0xCF9")
           : way == 1 ? power.OnPowerOff()
           : way == 2 ? power.OnTripleFault(0)
                      : power.OnHang()) == Action::kEnd);
    CHECK(power.verdict().code == ExitCode::kGuestPanic);
  }
}

TEST_CASE("What the guest says on the debug-exit port counts even after a panic") {
  PowerState power = Default();
  power.OnPanicSeen("Kernel panic");
  CHECK(power.OnDebugExit(5) == Action::kEnd);
  CHECK(power.verdict().code == ExitCode::kGuestFailure);
}

TEST_CASE("on_panic = reset starts the guest again, and the next panic counts anew") {
  PowerState power(OnReboot::kExit, OnPanic::kReset);
  for (int round = 0; round < 2; ++round) {
    power.OnPanicSeen("Kernel panic");
    CHECK(power.OnPanicSettled() == Action::kReset);
    CHECK_FALSE(power.panic_seen());
  }
  CHECK_FALSE(power.ended());
}

TEST_CASE("on_panic = pause keeps the machine for the debugger") {
  PowerState power(OnReboot::kReset, OnPanic::kPause);
  power.OnPanicSeen("Kernel panic");
  CHECK(power.OnResetRequest("port 0xCF9") == Action::kPause);
  CHECK_FALSE(power.ended());
}

}  // namespace
}  // namespace vmm
