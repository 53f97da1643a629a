// Where the engine is plugged into the board: the interrupt controllers are made before the
// engine's Vm, and the Vm needs them to be made.
#pragma once

#include <atomic>

#include "vmm/core/accel/accelerator.h"
#include "vmm/core/memory/host_write_listener.h"

namespace vmm {

// Passes interrupts to the Vm; while none is plugged in they go nowhere, as with no processor in
// the socket. Threads: Set() while no vCPU runs, the rest from any thread.
class VmPlug final : public IoapicOutput, public ExtIntListener, public HostWriteListener {
 public:
  void Set(Vm* vm) { vm_.store(vm, std::memory_order_release); }

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

 private:
  Vm* Get() const { return vm_.load(std::memory_order_acquire); }
  std::atomic<Vm*> vm_{nullptr};
};

}  // namespace vmm
