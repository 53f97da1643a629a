// What the local APICs of a machine share: the way for interrupt messages between processors, from
// the IOAPIC and from MSI devices, and the wires to the 8259 pair and to the IOAPIC.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "vmm/core/irq/irq_line.h"
#include "vmm/core/irq/local_apic_regs.h"

namespace vmm {

class LocalApic;

// An interrupt message as it travels. [SDM 3A] 10.6, 10.11
struct ApicMessage {
  enum class Shorthand : uint8_t { kNone, kSelf, kAll, kAllButSelf };

  uint32_t destination = 0;
  bool logical = false;
  bool wide =
      false;  // `destination` has 32 bits (sent in x2APIC mode); else 8, and 0xff is everybody
  Shorthand shorthand = Shorthand::kNone;
  apic::DeliveryMode mode = apic::DeliveryMode::kFixed;
  bool redirect = false;  // MSI redirection hint: one of the destinations, as in lowest priority
  uint8_t vector = 0;
  bool level = false;  // level triggered: EOI goes to the EoiListener
};

// Threads: Send and SendMsi from any thread, with locks of lower rank held; no lock of its own.
// Processors join before the machine runs and leave when no one sends any more.
class ApicBus final : public MsiSink {
 public:
  static constexpr unsigned kMaxApics = 255;  // xAPIC ids 0 to 254

  // INTR of `pic` is wired to LINT0 of APIC 0; EOIs of level-triggered vectors go to `ioapic`.
  ApicBus(ExtIntSource& pic, EoiListener& ioapic) : pic_(pic), ioapic_(ioapic) {}
  ApicBus(const ApicBus&) = delete;
  ApicBus& operator=(const ApicBus&) = delete;

  // [SDM 3A] 10.11. An address outside 0xFEExxxxx is dropped.
  void SendMsi(MsiMessage message) override;
  // `source` is the id of the sending APIC; only shorthands look at it.
  void Send(const ApicMessage& message, unsigned source);
  // The engine's Vm::ExtIntChanged(): the 8259's INTR wire moved. Must be called at each change.
  void ExtIntChanged();

  LocalApic* Find(unsigned id) const {
    return id < kMaxApics ? apics_[id].load(std::memory_order_acquire) : nullptr;
  }
  unsigned count() const { return count_; }  // one more than the highest id

 private:
  friend class LocalApic;
  void Join(unsigned id, LocalApic& apic);
  void Leave(unsigned id);
  void SendLowestPriority(const ApicMessage& message);
  static bool Matches(const LocalApic& apic, const ApicMessage& message);

  ExtIntSource& pic_;
  EoiListener& ioapic_;
  std::array<std::atomic<LocalApic*>, kMaxApics> apics_{};
  std::atomic<unsigned> count_{0};
  std::atomic<unsigned> last_lowest_{0};  // who got the last lowest-priority interrupt
};

}  // namespace vmm
