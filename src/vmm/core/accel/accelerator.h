// The seam between the machine and what executes its instructions. Three engines stand behind it:
// kvm, bt (the translator) and interpreter. Port and memory accesses leave an engine through the
// buses that it is given; Run() returns only what the machine must decide.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "vmm/core/accel/debug.h"
#include "vmm/core/accel/instruction_rescuer.h"
#include "vmm/core/accel/instruction_schedule.h"
#include "vmm/core/accel/statistic.h"
#include "vmm/core/base/result.h"
#include "vmm/core/bus/bus.h"
#include "vmm/core/irq/irq_line.h"
#include "vmm/core/memory/guest_memory.h"
#include "vmm/core/state/cpu_state.h"
#include "vmm/core/state/cpuid_policy.h"
#include "vmm/core/time/clock.h"

namespace vmm {

// When user code of the guest leaves for host processes of its own, on an engine that has them.
enum class UserCells : uint8_t { kNever, kWorthIt, kAlways };
// Whether a thread of each vCPU's own translates for it. kWorthIt: where the host has processors
// besides those that run vCPUs.
enum class TranslateAside : uint8_t { kNever, kWorthIt, kAlways };

// What a Vm is made of. All references outlive the Vm.
struct VmParts {
  GuestMemory& memory;
  Bus& ports;
  Bus& mmio;
  Clock& clock;
  TimerService& timers;
  ExtIntSource& pic;    // INTR of the 8259 pair, wired to LINT0 of CPU 0
  EoiListener& ioapic;  // hears of EOIs of level-triggered vectors
  const CpuidPolicy& cpuid;
  unsigned cpu_count;  // 1 to 8
  // Null: vCPUs run side by side. Else they take turns; `clock` and `timers` are its time. An
  // engine that can't count refuses.
  InstructionSchedule* schedule = nullptr;
  // Executes what this engine can't; null: then the vCPU fails.
  InstructionRescuer* rescuer = nullptr;
  // Statistics shall tell how many instructions were executed, where that costs something.
  bool count_instructions = false;
  // Code that the engine makes at run-time shall have names in /tmp/perf-PID.map.
  bool perf_map = false;
  // Code that the engine makes is held against its interpreter, block by block; the first
  // difference ends the process with a report. With `schedule` only.
  bool lockstep = false;
  UserCells user_cells = UserCells::kWorthIt;
  TranslateAside translate_aside = TranslateAside::kNever;
};

enum class RunExit : uint8_t {
  kInterrupted,  // Kick() was called
  kHalted,    // HLT with interrupts off. Told once: the next Run() sleeps until NMI, INIT or Kick()
  kShutdown,  // triple fault
  kDebug,     // what the debugger asked for; `debug` says which
  kFailed,    // the engine can't go on; `detail` says why
};

struct RunResult {
  RunExit exit = RunExit::kInterrupted;
  std::string detail;
  DebugStop debug{};
};

// One virtual processor. Run, Save and Load on the vCPU's own thread (or before it starts); Kick
// from anywhere.
class Vcpu {
 public:
  virtual ~Vcpu() = default;
  // Executes until the machine must decide. A halted or waiting-for-SIPI processor sleeps inside.
  virtual RunResult Run() = 0;
  // Makes the current Run(), or else the next one, return kInterrupted soon.
  virtual void Kick() = 0;
  virtual Result<void> Save(CpuState& state) = 0;
  virtual Result<void> Load(const CpuState& state) = 0;
  // How each Run() from now on goes. On the vCPU's own thread, or while it is not in Run().
  virtual void SetDebugStep(DebugStep) {}
  // What it has done so far; the same names in the same order for all vCPUs of a Vm. On the vCPU's
  // own thread, or while it is not in Run().
  virtual vmm::Statistics Statistics() const { return {}; }
};

class Vm : public MsiSink {
 public:
  // CPU `id` (also its APIC id), from 0; each once, before any of them runs.
  virtual Result<std::unique_ptr<Vcpu>> CreateVcpu(unsigned id) = 0;
  // The 8259's INTR wire changed. Any thread.
  virtual void ExtIntChanged() = 0;
  virtual void InjectNmi(unsigned cpu) = 0;
  // The IOAPIC's table changed: under KVM's split irqchip, routes must follow. Any thread.
  virtual void IoapicRouteChanged(unsigned pin, MsiMessage message, bool masked, bool level) = 0;
  // The gate of address line 20 moved: closed, bit 20 of every physical address is zero. It is open
  // when the Vm is made. Any thread, at best one whose vCPU executes the access that moved it. An
  // engine that can't do it leaves the line alone.
  virtual void SetA20(bool) {}
  // Wire an eventfd to a guest write, so that it needs no exit where the engine can: any value of
  // `size` bytes (0 = any size) at `address` signals `fd`. kUnavailable: the engine can't, or is
  // quicker with a Device there.
  virtual Result<void> AddIoEventFd(bool, uint64_t, unsigned, int) {
    return Fail(ExitCode::kUnavailable, "this engine wires no eventfd to a guest write");
  }
  virtual Result<void> RemoveIoEventFd(bool, uint64_t, unsigned, int) {
    return Fail(ExitCode::kUnavailable, "this engine wires no eventfd to a guest write");
  }
  // Wire an eventfd to an interrupt: each signal of `fd` sends `message`, without a detour through
  // this process. The result names the wire. kUnavailable: the engine can't; use SendMsi.
  virtual Result<unsigned> AddIrqFd(int, MsiMessage) {
    return Fail(ExitCode::kUnavailable, "this engine wires no eventfd to an interrupt");
  }
  virtual Result<void> UpdateIrqFd(unsigned, MsiMessage) {
    return Fail(ExitCode::kUnavailable, "this engine wires no eventfd to an interrupt");
  }
  virtual void RemoveIrqFd(unsigned, int) {}
  // Time of the guest's paravirtual clock where the engine keeps one of its own; nothing where it
  // follows VmParts::clock. To set it makes it agree. vCPUs parked, from any thread.
  virtual std::optional<Nanoseconds> GuestTime() { return {}; }
  virtual void SetGuestTime(Nanoseconds) {}
  // Host code (DMA) wrote to guest RAM: translated code there is stale. Any thread.
  virtual void OnHostWrite(GuestPhys start, uint64_t length) = 0;
  // Where a debugger wants the vCPUs to stop; replaces what it wanted before. While no vCPU is in
  // Run(), any thread. `context`: the processor in whose address space the addresses are meant, for
  // an engine that must change memory. kUnavailable, and nothing has changed: the engine can't stop
  // there, or not at so many.
  virtual Result<void> SetDebugPoints(std::span<const DebugPoint> points, const CpuState& context) {
    (void)context;
    if (points.empty()) return {};
    return Fail(ExitCode::kUnavailable, "this engine has no breakpoints");
  }
};

class Accelerator {
 public:
  virtual ~Accelerator() = default;
  virtual std::string_view name() const = 0;  // "kvm", "bt", "interpreter"
  virtual Result<std::unique_ptr<Vm>> CreateVm(const VmParts& parts) = 0;
  // Of the machine that another engine runs. kUnavailable: this one rescues nobody.
  virtual Result<std::unique_ptr<InstructionRescuer>> CreateRescuer(const VmParts&) {
    return Fail(ExitCode::kUnavailable, "this engine finishes no instructions for another");
  }
};

}  // namespace vmm
