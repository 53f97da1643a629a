// Finds out whether the guest can ever do anything again: it can't when every processor is halted
// with interrupts off or was never started.
#pragma once

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>

#include "vmm/core/host/event_loop.h"
#include "vmm/core/host/host_timer.h"
#include "vmm/machine/vcpu_set.h"

namespace vmm {

// A look stops all vCPUs for a moment. It is taken soon after a vCPU told that it halted so, and
// for engines that don't tell (KVM halts in the kernel) when the vCPUs have used no CPU time for a
// while, ever more rarely as long as they turn out to be alive.
//
// The I/O thread only.
class HangWatch {
 public:
  static constexpr std::chrono::milliseconds kConfirm{20};  // between the two looks of a verdict
  static constexpr std::chrono::milliseconds kFirstIdleCheck{1000};
  static constexpr std::chrono::milliseconds kIdleCpuTime{2};  // a second of less is idle

  // `rarest`: how long an idle guest may at most go unlooked at (Config::hang_look).
  HangWatch(EventLoop& loop, VcpuSet& vcpus, std::chrono::milliseconds rarest,
            std::function<void()> on_hang)
      : loop_(loop),
        vcpus_(vcpus),
        first_(std::min(kFirstIdleCheck, rarest)),
        rarest_(rarest),
        on_hang_(std::move(on_hang)) {}
  Result<void> Start();

  void OnHalted();  // a vCPU is halted with interrupts off
  void Reset();     // the machine starts anew

 private:
  void OnTimer();
  bool AllDead();
  void Arm(std::chrono::milliseconds delay);

  EventLoop& loop_;
  VcpuSet& vcpus_;
  const std::chrono::milliseconds first_, rarest_;
  const std::function<void()> on_hang_;
  std::unique_ptr<HostTimer> timer_;
  bool told_ = false;        // a vCPU halted since the last look
  unsigned dead_looks_ = 0;  // one after the other
  std::chrono::milliseconds interval_{};
  std::chrono::nanoseconds cpu_time_{};
};

}  // namespace vmm
