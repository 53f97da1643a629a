// Interrupt wiring between devices, controllers and processors.
#pragma once

#include <cstdint>

#include "vmm/core/base/types.h"

namespace vmm {

// One wire into the interrupt controllers. Set() is level semantics on every line (an edge is
// Set(true), Set(false)); it may be called from any thread, with device locks held, and is
// idempotent.
class IrqLine {
 public:
  virtual ~IrqLine() = default;
  virtual void Set(bool level) = 0;
};

// A message-signalled interrupt. [SDM 3A] 10.11
struct MsiMessage {
  uint64_t address = 0;
  uint32_t data = 0;
};

// Whoever delivers messages to local APICs: the engine. The IOAPIC and MSI devices send here, from
// any thread.
class MsiSink {
 public:
  virtual ~MsiSink() = default;
  virtual void SendMsi(MsiMessage message) = 0;
};

// The 8259 pair as the processor sees it: a wire (INTR) and an acknowledge cycle.
class ExtIntSource {
 public:
  virtual ~ExtIntSource() = default;
  virtual bool IntrAsserted() const = 0;       // any thread, lock-free
  virtual uint8_t AcknowledgeInterrupt() = 0;  // INTA cycle: the vector, a spurious one if none
};

// Hears of changes of the 8259's INTR wire; what it is now is asked of the ExtIntSource. Any
// thread, with no lock of the 8259 held.
class ExtIntListener {
 public:
  virtual ~ExtIntListener() = default;
  virtual void ExtIntChanged() = 0;
};

// Where an IOAPIC sends, and who follows its table (KVM's split irqchip keeps routes). Any thread,
// with the lock of the IOAPIC held: nothing in here may call the IOAPIC.
class IoapicOutput : public MsiSink {
 public:
  // `message` is what the pin would send. Repeated for a pin whenever its entry is written.
  virtual void IoapicRouteChanged(unsigned pin, MsiMessage message, bool masked, bool level) = 0;
};

// Called by local APICs when the processor writes EOI for a level-triggered vector.
class EoiListener {
 public:
  virtual ~EoiListener() = default;
  virtual void OnEoi(uint8_t vector) = 0;
};

}  // namespace vmm
