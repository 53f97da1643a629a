// The machine as a debugger sees and moves it: stops that the vCPUs meet, stepping, breakpoints,
// memory. The server that it connects to is here too.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "vmm/config/config.h"
#include "vmm/core/accel/accelerator.h"
#include "vmm/core/host/event_loop.h"
#include "vmm/core/memory/guest_memory.h"
#include "vmm/gdb/server.h"
#include "vmm/gdb/session.h"
#include "vmm/gdb/target.h"
#include "vmm/machine/supervisor.h"
#include "vmm/machine/vcpu_set.h"

namespace vmm {

// A debugger that connects stops the guest, one that leaves lets it go on without breakpoints.
// While it stands for a debugger, all vCPUs are parked and machine time stands, so nothing but the
// debugger changes the guest. Everything on the I/O thread, but for OnVcpuExit().
class Debugger final : private gdb::Target {
 public:
  struct Parts {  // all outlive the debugger
    const Config& config;
    EventLoop& loop;
    Supervisor& supervisor;
    VcpuSet& vcpus;
    GuestMemory& memory;
    const std::unique_ptr<Vm>& vm;  // another one after each move to another engine
    bool avx;                       // the guest's processors have it
  };
  // Listens where config.gdb says. Errors name the address.
  static Result<std::unique_ptr<Debugger>> Create(const Parts& parts);

  // Any thread, usually the vCPU's own. False: no affair of a debugger's.
  bool OnVcpuExit(unsigned cpu, const RunResult& result);

  // The vCPUs are made and loaded, the guest does not run yet: with config.gdb_wait it stays so.
  void OnStart();
  // Around Machine::Reset(), with all vCPUs parked: breakpoints are taken out of memory that is
  // about to be loaded anew, and put in again.
  void BeforeReset();
  void AfterReset();
  // Around a look at all of memory, and a move to another engine, with all vCPUs parked: no
  // breakpoint is in memory or in the engine meanwhile.
  void Withdraw();
  void Renew();
  // The run is over; tells the debugger.
  void OnEnd(ExitCode code);

 private:
  explicit Debugger(const Parts& parts);

  // gdb::Target
  unsigned cpu_count() const override { return vcpus_.size(); }
  Result<void> ReadState(unsigned cpu, CpuState& state) override;
  Result<void> WriteState(unsigned cpu, const CpuState& state) override;
  size_t ReadMemory(unsigned cpu, bool physical, uint64_t address, std::span<uint8_t> out) override;
  bool WriteMemory(unsigned cpu, bool physical, uint64_t address,
                   std::span<const uint8_t> in) override;
  Result<void> SetPoints(unsigned cpu, std::span<const DebugPoint> points) override;
  void Resume(std::span<const gdb::Motion> motions) override;
  void Interrupt() override;
  void Detach() override;
  void Kill() override;
  void ResetMachine() override { supervisor_.Reset(); }
  void InjectNmi(unsigned cpu) override { vm_->InjectNmi(cpu); }
  void PressPowerButton() override { supervisor_.PressPowerButton(); }
  void LetStepsTakeInterrupts(bool on) override { steps_take_interrupts_ = on; }

  // What a vCPU met, on its way to the debugger.
  struct Met {
    unsigned cpu;
    RunResult result;
    unsigned generation;
  };

  void OnConnect();
  void OnPacket(std::string_view packet);
  void OnDisconnect();
  void OnMet(const Met& met);
  bool StaysInRange(unsigned cpu, const DebugStop& stop);
  bool StillHolds(const Met& met);
  void Tell(const Met& met);
  void StandStill();
  void GoOn();
  void ForgetMotions();
  gdb::Architecture ChooseArchitecture();
  Result<void> PutPointsIn(unsigned cpu);
  void TakePointsOut();
  void SetSteps();

  const Config& config_;
  EventLoop& loop_;
  Supervisor& supervisor_;
  VcpuSet& vcpus_;
  GuestMemory& memory_;
  const std::unique_ptr<Vm>& vm_;
  const bool avx_;

  std::unique_ptr<gdb::Server> server_;
  std::unique_ptr<gdb::Session> session_;
  std::atomic<bool> attached_{false};    // session_ exists
  std::atomic<unsigned> generation_{0};  // counts resets
  bool still_ = false;                   // the machine stands for us
  bool steps_take_interrupts_ = false;
  std::vector<std::optional<CpuState>> states_;  // while still_: what was read
  std::vector<gdb::Motion> motions_;             // of the last Resume()
  std::vector<DebugPoint> points_;
  unsigned points_cpu_ = 0;    // in whose address space they are meant
  bool points_are_in_ = true;  // the engine has them
  // Met while the machine was coming to a stop for another reason; told when it is to go on.
  std::deque<Met> waiting_;
  // Triple faults that the debugger was told; the run ends when the vCPU goes on.
  std::vector<bool> dead_;
  unsigned last_cpu_ = 0;
};

}  // namespace vmm
