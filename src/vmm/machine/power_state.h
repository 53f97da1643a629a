// Decides what becomes of the machine when something final happens: does it end, and with which
// exit code, is it reset, is it paused? Pure logic; used on the I/O thread only.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "vmm/config/config.h"
#include "vmm/core/base/exit_code.h"

namespace vmm {

enum class Limit { kWall, kIdle };

struct Verdict {
  ExitCode code = ExitCode::kSuccess;
  std::string reason;                   // one sentence for the admin
  std::optional<uint32_t> guest_value;  // what was written to the debug-exit port
};

class PowerState {
 public:
  enum class Action {
    kGoOn,   // nothing changes
    kEnd,    // verdict() says how
    kReset,  // reset the machine and run it again
    kPause,  // stop the vCPUs and wait for the admin
  };

  PowerState(OnReboot on_reboot, OnPanic on_panic) : on_reboot_(on_reboot), on_panic_(on_panic) {}

  // The first event that ends the machine decides; later ones change nothing.
  Action OnPowerOff();
  Action OnDebugExit(uint32_t value);
  Action OnResetRequest(std::string source);
  Action OnTripleFault(unsigned cpu);
  Action OnHang();
  Action OnEngineFailed(unsigned cpu, std::string detail);
  Action OnLimit(Limit limit, std::string detail);
  Action OnStop(std::string who);
  Action OnSuspended(std::string where);

  // A panic was seen (console or pvpanic) but the kernel may still be printing: from here on a
  // power-off, a reset or a triple fault counts as the panic's end. kGoOn.
  Action OnPanicSeen(std::string reason);
  // The kernel has said all that it will. Nothing, unless a panic was seen.
  Action OnPanicSettled();

  // The machine starts anew: what the last guest's kernel said no longer counts.
  void OnMachineReset() { panic_reason_.reset(); }

  bool panic_seen() const { return panic_reason_.has_value(); }
  bool ended() const { return verdict_.has_value(); }
  const Verdict& verdict() const { return *verdict_; }  // only when ended()

 private:
  Action End(ExitCode code, std::string reason);

  const OnReboot on_reboot_;
  const OnPanic on_panic_;
  std::optional<std::string> panic_reason_;
  std::optional<Verdict> verdict_;
};

}  // namespace vmm
