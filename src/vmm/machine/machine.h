// A virtual machine from its config to its end: memory, clock, board, engine, processors, consoles.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "vmm/config/config.h"
#include "vmm/core/accel/accelerator.h"
#include "vmm/core/host/event_loop.h"
#include "vmm/core/host/host_timer.h"
#include "vmm/core/memory/guest_memory.h"
#include "vmm/core/time/host_clock.h"
#include "vmm/machine/board.h"
#include "vmm/machine/consoles.h"
#include "vmm/machine/debugger.h"
#include "vmm/machine/deterministic_run.h"
#include "vmm/machine/disks.h"
#include "vmm/machine/host_signals.h"
#include "vmm/machine/machine_control.h"
#include "vmm/machine/machine_description.h"
#include "vmm/machine/nets.h"
#include "vmm/machine/run_outcome.h"
#include "vmm/machine/saved_machine.h"
#include "vmm/machine/shares.h"
#include "vmm/machine/supervisor.h"
#include "vmm/machine/vcpu_set.h"
#include "vmm/probe/engine_choice.h"

namespace vmm {

// Create, Run, destroy: all on one thread, which is the I/O thread.
class Machine {
 public:
  // Makes everything, loads the kernel and chooses the engine; the guest does not run yet. Blocks
  // the signals that end the program (HostSignals), so no other thread may exist before.
  // Errors carry the exit code and name the file or the part.
  static Result<std::unique_ptr<Machine>> Create(const Config& config);
  // The same with other engines, for tests.
  static Result<std::unique_ptr<Machine>> Create(const Config& config, EngineSources& engines);
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;
  ~Machine();

  // Memory map, processors, devices with their places; before Run().
  MachineDescription Describe() const;

  // Runs the guest until an outcome exists. Once.
  RunOutcome Run();

  // What may be asked of it while it runs, from any thread.
  Supervisor& supervisor() { return *supervisor_; }

 private:
  Machine(const Config& config, EngineSources& engines, std::unique_ptr<SavedMachine> saved);
  Result<void> MakeHostSide();
  Result<void> MakeMemory();
  Result<void> MakeBoard();
  Result<void> MakeEngine(EngineSources& engines);
  Result<void> ChooseEngineFor(const CpuidOptions& options, EngineSources& engines);
  MachineClock& clock();
  const MachineClock& clock() const { return const_cast<Machine*>(this)->clock(); }
  TimerService& timers();
  void PressPowerButton();
  void OnSignals();
  void FlushPage(GuestPhys page);
  // ACPI tables and kernel into RAM; states_ becomes that of power-on.
  Result<void> LoadGuest(bool memory_is_zero);
  // The same from saved_, and what comes after once the vCPUs have threads.
  Result<void> LoadSavedGuest();
  Result<void> Restore();
  Result<void> Save();
  Result<void> WriteAll();
  Result<void> SaveVcpus(std::vector<CpuState>& states);
  Result<std::unique_ptr<Vm>> CreateVmOf(Accelerator& accelerator,
                                         std::vector<std::unique_ptr<Vcpu>>& vcpus);
  VmParts PartsWith(const CpuidPolicy& cpuid);
  InstructionRescuer* RescuerFor(const Accelerator& accelerator);
  // Neither the guest's own clock nor the machine's goes back when the other takes over.
  void CatchUpWithGuest();
  Result<void> Move(bool unasked);
  Result<void> MoveVcpus();
  Result<void> MakeOther();
  Result<std::unique_ptr<Accelerator>> ChooseOther();
  void WatchSlowKvm();
  Result<void> LoadVcpus();
  Result<void> Reset();
  Result<void> StartVcpus();
  // Of a machine that has moved: of the engine before as well. Stopped, or all parked.
  std::vector<control::EngineStatistics> CollectStatistics() const;
  Result<void> MakeControl();
  control::Status TellStatus() const;
  std::vector<control::NetStatus> TellNets() const;
  // kUnavailable: there is no such card.
  Result<void> SetLink(const std::string& name, bool up);
  Result<void> MakeDebugger();

  // In the order of dependency: what is lower uses what is higher. The destructor ends the vCPU
  // threads first.
  const Config config_;
  std::unique_ptr<SavedMachine> saved_;  // until its state is in the machine
  std::unique_ptr<HostSignals> signals_;
  std::unique_ptr<GuestMemory> memory_;
  HostClock host_clock_;
  std::unique_ptr<DeterministicRun> deterministic_;  // null: time is the host's
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<MachineControl> control_;  // null without a socket; there until all else is gone
  VcpuSet vcpus_;
  std::unique_ptr<Supervisor> supervisor_;
  std::unique_ptr<Consoles> consoles_;
  std::unique_ptr<Disks> disks_;
  std::unique_ptr<Nets> nets_;
  std::unique_ptr<Shares> shares_;
  std::unique_ptr<Board> board_;
  EngineChoice engine_;
  EngineSources engines_;
  CpuidPolicy host_cpuid_;  // of the rescuer
  std::unique_ptr<Accelerator> rescue_engine_;
  std::unique_ptr<InstructionRescuer> rescuer_;  // of KVM
  std::unique_ptr<Vm> vm_;
  // The engine that the machine may move to, made for the first move; its processors sleep.
  struct Other {
    std::unique_ptr<Accelerator> accelerator;
    std::unique_ptr<Vm> vm;
    std::vector<std::unique_ptr<Vcpu>> vcpus;
  } other_;
  std::unique_ptr<HostTimer> slow_timer_;
  std::vector<uint8_t> description_;    // as a device tree, before the guest moves anything
  std::unique_ptr<Debugger> debugger_;  // null unless config_.gdb asks for it
  std::vector<CpuState> states_;        // one a CPU, between LoadGuest() and LoadVcpus()
};

}  // namespace vmm
