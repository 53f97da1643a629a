// Where the engine is plugged into the board: the interrupt controllers are made before the
// engine's Vm, and the Vm needs them to be made.
#pragma once

#include <algorithm>
#include <atomic>
#include <mutex>
#include <vector>

#include "vmm/core/accel/accelerator.h"
#include "vmm/core/bus/doorbell_wires.h"
#include "vmm/core/memory/host_write_listener.h"

namespace vmm {

// Passes interrupts to the Vm; while none is plugged in they go nowhere, as with no processor in
// the socket. Threads: Set() while no vCPU runs, the rest from any thread.
class VmPlug final : public IoapicOutput,
                     public ExtIntListener,
                     public HostWriteListener,
                     public DoorbellWires {
 public:
  // The one that was plugged in before is still there, and has no doorbells from now on.
  void Set(Vm* vm) {
    const std::lock_guard lock(mutex_);
    if (Vm* before = Get()) {
      for (const Doorbell& doorbell : doorbells_) Remove(*before, doorbell);
    }
    vm_.store(vm, std::memory_order_release);
    if (vm == nullptr) return;
    for (const Doorbell& doorbell : doorbells_) Add(*vm, doorbell);
  }

  void SetA20(bool open) {
    if (Vm* vm = Get()) vm->SetA20(open);
  }
  void SendMsi(MsiMessage message) override {
    if (Vm* vm = Get()) vm->SendMsi(message);
  }
  void ExtIntChanged() override {
    if (Vm* vm = Get()) vm->ExtIntChanged();
  }
  void IoapicRouteChanged(unsigned pin, MsiMessage message, bool masked, bool level) override {
    if (Vm* vm = Get()) vm->IoapicRouteChanged(pin, message, masked, level);
  }
  void OnHostWrite(GuestPhys start, uint64_t length) override {
    if (Vm* vm = Get()) vm->OnHostWrite(start, length);
  }
  void Wire(const Doorbell& doorbell) override {
    const std::lock_guard lock(mutex_);
    doorbells_.push_back(doorbell);
    if (Vm* vm = Get()) Add(*vm, doorbell);
  }
  void Unwire(const Doorbell& doorbell) override {
    const std::lock_guard lock(mutex_);
    std::erase(doorbells_, doorbell);
    if (Vm* vm = Get()) Remove(*vm, doorbell);
  }

 private:
  Vm* Get() const { return vm_.load(std::memory_order_acquire); }
  // Where the engine does not take it, the device does.
  static void Add(Vm& vm, const Doorbell& doorbell) {
    static_cast<void>(vm.AddIoEventFd(false, doorbell.address.value, doorbell.size, doorbell.fd));
  }

  static void Remove(Vm& vm, const Doorbell& doorbell) {
    static_cast<void>(
        vm.RemoveIoEventFd(false, doorbell.address.value, doorbell.size, doorbell.fd));
  }

  std::atomic<Vm*> vm_{nullptr};
  std::mutex mutex_;  // guards doorbells_, and that the engine has these
  std::vector<Doorbell> doorbells_;
};

}  // namespace vmm
