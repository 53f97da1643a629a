#include "kvm/gsi_routes.h"

#include <cerrno>

#include "kvm/flexible_list.h"
#include "kvm/kvm_uapi.h"

namespace kvm {

GsiRoutes::GsiRoutes(const VmFd& vm)
    : vm_(vm), routes_(VmFd::kIoapicPins), taken_(VmFd::kIoapicPins, true) {}

int GsiRoutes::Set(uint32_t gsi, std::optional<vmm::MsiMessage> message) {
  std::lock_guard lock(mutex_);
  if (gsi >= routes_.size()) return -EINVAL;
  auto& route = routes_[gsi];
  const bool same =
      route.has_value() == message.has_value() &&
      (!route || (route->address == message->address && route->data == message->data));
  if (same) return 0;
  route = message;
  return Push();
}

int GsiRoutes::Allocate() {
  std::lock_guard lock(mutex_);
  for (uint32_t gsi = VmFd::kIoapicPins; gsi < kMaxGsi; ++gsi) {
    if (gsi == taken_.size()) {
      taken_.push_back(false);
      routes_.emplace_back();
    }
    if (taken_[gsi]) continue;
    taken_[gsi] = true;
    return static_cast<int>(gsi);
  }
  return -ENOSPC;
}

void GsiRoutes::Free(uint32_t gsi) {
  Set(gsi, std::nullopt);
  std::lock_guard lock(mutex_);
  taken_[gsi] = false;
}

int GsiRoutes::Push() {
  FlexibleList<kvm_irq_routing, kvm_irq_routing_entry> table(routes_.size());
  for (uint32_t gsi = 0; gsi < routes_.size(); ++gsi) {
    if (!routes_[gsi]) continue;
    kvm_irq_routing_entry& entry = table->entries[table->nr++];
    entry.gsi = gsi;
    entry.type = KVM_IRQ_ROUTING_MSI;
    entry.u.msi.address_lo = static_cast<uint32_t>(routes_[gsi]->address);
    entry.u.msi.address_hi = static_cast<uint32_t>(routes_[gsi]->address >> 32);
    entry.u.msi.data = routes_[gsi]->data;
  }
  return vm_.Ioctl(KVM_SET_GSI_ROUTING, table.get());
}

}  // namespace kvm
