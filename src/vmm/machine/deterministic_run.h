// What makes a run deterministic, in one place: time counted in instructions, the gates through
// which inputs pass, their record or replay, and the state hash.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <vector>

#include "vmm/config/config.h"
#include "vmm/core/accel/accelerator.h"
#include "vmm/core/memory/guest_memory.h"
#include "vmm/core/time/counted_time.h"
#include "vmm/machine/consoles.h"
#include "vmm/machine/input_gate.h"
#include "vmm/machine/input_log.h"
#include "vmm/machine/state_hash.h"

namespace vmm {

class DeterministicRun {
 public:
  using Lines = std::array<CharBackend*, Config::kSerialPorts>;

  // Opens what config.trace names. `press_power_button` is called in the machine's time.
  static Result<std::unique_ptr<DeterministicRun>> Create(const Config& config,
                                                          const GuestMemory& memory,
                                                          std::function<void()> press_power_button);

  CountedTime& time() { return time_; }
  // The consoles as the machine must see them; once.
  Lines Gate(const Lines& consoles);
  // What was typed to each line, has left its console and is not yet in the port. With all vCPUs
  // parked.
  Consoles::Ahead OnTheWay() const;
  // Asks for it at the next point between two turns; any thread.
  void PressPowerButton() { time_.Post(kPowerButtonInput, {}); }
  // Before the machine runs.
  void Watch(std::vector<Vcpu*> vcpus) { vcpus_ = std::move(vcpus); }
  // After it ran: the files are complete, or the error says which is not.
  Result<void> Finish();

 private:
  DeterministicRun(unsigned cpus, std::function<void()> press_power_button)
      : time_(cpus), press_power_button_(std::move(press_power_button)) {}
  void OnInput(const MachineInput& input);

  CountedTime time_;
  const std::function<void()> press_power_button_;
  std::vector<Vcpu*> vcpus_;
  std::unique_ptr<InputLogWriter> record_;
  std::unique_ptr<StateHashWriter> hash_;
  std::array<std::unique_ptr<InputGate>, Config::kSerialPorts> gates_;  // their timers go first
};

}  // namespace vmm
