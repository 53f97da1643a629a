// All vCPU threads of a machine, held and released together.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "vmm/machine/vcpu_thread.h"

namespace vmm {

// The guest runs while nobody holds it. Every reason to stand still is one hold: not yet started, a
// guest event that waits for the machine's decision, a reset, a pause by the admin. So reasons may
// overlap, and the last to be released lets the vCPUs go on.
//
// Lock: rank between the devices and the vCPU threads (a device's callback may hold).
class VcpuSet {
 public:
  VcpuSet() = default;
  ~VcpuSet();  // Stop()

  // CPU `id` is the number of calls before. Before Start().
  void Add(std::unique_ptr<Vcpu> vcpu, VcpuThread::ExitHandler on_exit);
  // Makes the threads; held once, by the caller.
  Result<void> Start();

  // Any thread, a vCPU's own included. The vCPUs leave the guest soon: the calling one before its
  // next instruction.
  void Hold();
  void Release();
  // Waits until all are parked. Only while held, not on a vCPU's thread.
  void WaitParked();
  // Hold() and WaitParked(): every vCPU stands between two instructions and its state can be saved,
  // loaded and looked at by Call(). Not on a vCPU's thread. Release() undoes it.
  void Pause();
  // Which of them stay parked when all others are released. Only while held.
  void Freeze(std::vector<bool> frozen);
  // Runs `work` on the thread of CPU `id`, and waits. Only while held.
  void Call(unsigned id, const std::function<void(Vcpu&)>& work);

  // The threads drive `others` from here on, one for each CPU, which get back those that they
  // drove. Only while all are parked.
  void Exchange(std::vector<std::unique_ptr<Vcpu>>& others);

  // Ends and joins all threads. Idempotent.
  void Stop();
  // Stop(), and the vCPUs are destroyed too: before their Vm.
  void Clear();

  // After Stop(), or while all are parked.
  const Vcpu& vcpu(unsigned id) const { return *vcpus_.at(id); }
  unsigned size() const { return static_cast<unsigned>(threads_.size()); }
  bool held() const;
  std::chrono::nanoseconds CpuTime() const;  // of all threads together

 private:
  mutable std::mutex mutex_;
  unsigned holds_ = 0;
  bool stopped_ = false;
  std::vector<bool> frozen_;  // empty: none
  std::vector<std::unique_ptr<Vcpu>> vcpus_;
  std::vector<std::unique_ptr<VcpuThread>> threads_;  // after the vCPUs: they go first
};

}  // namespace vmm
