// The table that says which message each interrupt number sends. KVM needs the IOAPIC's part of it
// to know which EOIs to report. [KVM API] 4.52 KVM_SET_GSI_ROUTING
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <vector>

#include "kvm/vm_fd.h"
#include "vmm/core/irq/irq_line.h"

namespace kvm {

// Threads: any. Lock rank: below the interrupt controllers, above vCPU kick.
class GsiRoutes {
 public:
  // GSIs are numbered below this. [KVM API] KVM_CAP_IRQ_ROUTING says 1024 and more.
  static constexpr uint32_t kMaxGsi = 1024;

  explicit GsiRoutes(const VmFd& vm);

  // Sets a route, or takes it away. 0 or -errno. Nothing is told to KVM when nothing changes.
  int Set(uint32_t gsi, std::optional<vmm::MsiMessage> message);
  // A number above the IOAPIC's pins that is free; it is taken then. -ENOSPC when there is none.
  int Allocate();
  void Free(uint32_t gsi);

 private:
  int Push();

  const VmFd& vm_;
  std::mutex mutex_;
  std::vector<std::optional<vmm::MsiMessage>> routes_;
  std::vector<bool> taken_;
};

}  // namespace kvm
