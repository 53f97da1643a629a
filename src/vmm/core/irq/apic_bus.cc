#include "vmm/core/irq/apic_bus.h"

#include "vmm/core/base/check.h"
#include "vmm/core/irq/local_apic.h"

namespace vmm {
namespace {

using apic::DeliveryMode;

constexpr uint32_t kBroadcast = 0xff;
constexpr uint32_t kWideBroadcast = 0xffffffff;

}  // namespace

void ApicBus::Join(unsigned id, LocalApic& apic) {
  CHECK(id < kMaxApics && apics_[id].load() == nullptr);
  apics_[id].store(&apic, std::memory_order_release);
  if (id >= count_) count_ = id + 1;
}

void ApicBus::Leave(unsigned id) {
  apics_[id].store(nullptr, std::memory_order_release);
}

void ApicBus::SendMsi(MsiMessage message) {
  if ((message.address & ~uint64_t{0xfffff}) != apic::kDefaultBase) return;
  ApicMessage out;
  out.destination = message.address >> 12 & 0xff;
  out.redirect = message.address & 8;
  out.logical = message.address & 4;
  out.vector = static_cast<uint8_t>(message.data);
  out.mode = static_cast<DeliveryMode>(message.data >> 8 & 7);
  out.level = message.data & 0x8000;
  // Start-up and the reserved mode exist in the ICR only.
  if (out.mode == DeliveryMode::kStartUp) return;
  Send(out, kMaxApics);
}

// [SDM 3A] 10.6.2
bool ApicBus::Matches(const LocalApic& apic, const ApicMessage& message) {
  const LocalApic::Routing target = apic.routing();
  if (!target.enabled) return false;
  const uint32_t mda = message.destination;
  if (mda == (message.wide ? kWideBroadcast : kBroadcast)) return true;
  if (!message.logical) return mda == apic.id();
  if (target.x2apic) return mda >> 16 == target.ldr >> 16 && (mda & target.ldr & 0xffff) != 0;
  const uint32_t ldr = target.ldr >> 24;
  if (!target.cluster) return (mda & ldr & 0xff) != 0;
  return (mda >> 4 & 0xf) == ldr >> 4 && (mda & ldr & 0xf) != 0;
}

void ApicBus::Send(const ApicMessage& message, unsigned source) {
  using Shorthand = ApicMessage::Shorthand;
  if (message.shorthand == Shorthand::kNone &&
      (message.mode == DeliveryMode::kLowestPriority || message.redirect)) {
    return SendLowestPriority(message);
  }
  // The usual case has one receiver, found by its id.
  if (message.shorthand == Shorthand::kSelf ||
      (message.shorthand == Shorthand::kNone && !message.logical &&
       message.destination != (message.wide ? kWideBroadcast : kBroadcast))) {
    const unsigned id = message.shorthand == Shorthand::kSelf ? source : message.destination;
    LocalApic* apic = Find(id);
    if (apic != nullptr) apic->Deliver(message.mode, message.vector, message.level);
    return;
  }
  const unsigned count = count_;
  for (unsigned id = 0; id < count; ++id) {
    LocalApic* apic = Find(id);
    if (apic == nullptr) continue;
    if (message.shorthand == Shorthand::kNone && !Matches(*apic, message)) continue;
    if (message.shorthand == Shorthand::kAllButSelf && id == source) continue;
    apic->Deliver(message.mode, message.vector, message.level);
  }
}

// The processor with the lowest priority takes it; equals take turns. [SDM 3A] 10.6.2.4
void ApicBus::SendLowestPriority(const ApicMessage& message) {
  const unsigned count = count_;
  const unsigned last = last_lowest_.load(std::memory_order_relaxed);
  LocalApic* best = nullptr;
  for (unsigned i = 1; i <= count; ++i) {
    LocalApic* apic = Find((last + i) % count);
    if (apic == nullptr || !apic->routing().software_enabled || !Matches(*apic, message)) continue;
    if (best == nullptr || apic->ppr() < best->ppr()) best = apic;
  }
  if (best == nullptr) return;
  last_lowest_.store(best->id(), std::memory_order_relaxed);
  best->Deliver(message.mode, message.vector, message.level);
}

void ApicBus::ExtIntChanged() {
  if (LocalApic* apic = Find(0)) apic->ExtIntChanged();
}

}  // namespace vmm
