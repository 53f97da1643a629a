// One processor of a KVM machine.
#pragma once

#include <pthread.h>

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>

#include "kvm/guest_debug.h"
#include "kvm/msr_set.h"
#include "kvm/vcpu_fd.h"
#include "vmm/core/accel/accelerator.h"

namespace kvm {

// Life of Run(): check for a kick, offer the 8259's interrupt, enter the guest, answer its exit,
// again. A kick can't be lost: the kicker sets a flag, then kvm_run.immediate_exit, then signals
// the thread if it is in KVM_RUN; the vCPU clears immediate_exit before it looks at the flags.
class KvmVcpu final : public vmm::Vcpu {
 public:
  struct Wiring {
    vmm::Bus& ports;
    vmm::Bus& mmio;
    vmm::EoiListener& ioapic;
    const DebugSetup& debug;
    vmm::ExtIntSource* pic;            // CPU 0 only; else nullptr
    vmm::InstructionRescuer* rescuer;  // may be null
    std::function<void()> on_destroyed;
  };

  KvmVcpu(std::unique_ptr<VcpuFd> fd, const MsrSet& msrs, Wiring wiring);
  ~KvmVcpu() override;

  vmm::RunResult Run() override;
  void Kick() override;
  vmm::Result<void> Save(vmm::CpuState& state) override;
  vmm::Result<void> Load(const vmm::CpuState& state) override;

  void SetDebugStep(vmm::DebugStep step) override { debug_.SetStep(step); }
  vmm::Statistics Statistics() const override;

  // Makes Run() look at the 8259 again. Any thread.
  void Poke();

 private:
  // What ends Run(), if anything.
  using Outcome = std::optional<vmm::RunResult>;

  class TurnBack;

  Outcome HandleExit();
  Outcome HandleDebug();
  void HandleIo();
  void HandleMmio();
  void OfferExtInt();
  Outcome OnInternalError();
  vmm::Result<vmm::Rescue> RescueInstruction();
  vmm::Result<void> Settle();
  vmm::Result<void> FinishAccess();
  vmm::Result<void> FinishInjection();

  std::unique_ptr<VcpuFd> fd_;
  const MsrSet& msrs_;
  Wiring wiring_;
  GuestDebug debug_;

  // Of the vCPU's thread.
  bool half_done_ = false;       // KVM completes the last access on the next entry
  bool ext_int_queued_ = false;  // KVM_INTERRUPT was called, the guest may not have seen it
  struct {
    uint64_t entries, port, mmio, windows, eois, rescues;
  } done_{};
  Outcome deferred_;  // met while a state was read; the next Run() returns it

  std::atomic<bool> kicked_{false};
  std::atomic<bool> in_kernel_{false};
  std::mutex thread_mutex_;  // rank: vCPU kick, below all others
  bool running_ = false;     // guarded by thread_mutex_
  pthread_t thread_{};       // guarded by thread_mutex_
};

}  // namespace kvm
