// A PCI function with base address registers, an interrupt pin and capabilities.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "vmm/core/bus/doorbell_wires.h"
#include "vmm/core/irq/irq_line.h"
#include "vmm/core/pci/pci_address_plan.h"
#include "vmm/core/pci/pci_decoder.h"
#include "vmm/core/pci/pci_function.h"
#include "vmm/core/pci/pci_interrupts.h"

namespace vmm {

struct PciEndpointState {
  static constexpr uint32_t kVersion = 1;
  uint32_t version = kVersion;
  PciFunctionState function;
  PciInterruptsState interrupts;
  friend bool operator==(const PciEndpointState&, const PciEndpointState&) = default;
};

// A device derives from it, defines its BARs and capabilities in its constructor, and interrupts
// through interrupts(). The guest moves and sizes BARs, and switches decoding, pin and messages.
//
// Threads: any. Lock rank: as PciFunction.
class PciEndpoint : public PciFunction {
 public:
  // What a slot of the board gives; all outlive the function.
  struct Socket {
    PciDecoder& decoder;
    IrqLine& pin;  // INTA
    MsiSink& messages;
    DoorbellWires* doorbells = nullptr;  // null: every write reaches the device
  };

  ~PciEndpoint() override;

  // Before the machine runs: BARs get their places after reset from `plan`, and are decoded from
  // the start; `interrupt_line` is what a BIOS would have noted. kInternal: there is no room.
  Result<void> AssignResources(PciAddressPlan& plan, uint8_t interrupt_line);

  void ResetEndpoint();
  PciEndpointState SaveEndpoint() const;
  Result<void> LoadEndpoint(const PciEndpointState& state);

  PciInterrupts& interrupts() { return interrupts_; }
  // May the device access memory? [PCI] 6.2.2
  bool is_bus_master() const { return is_bus_master_.load(std::memory_order_acquire); }

 protected:
  struct Subsystem {
    uint16_t vendor = 0, device = 0;
  };
  enum class BarKind : uint8_t { kPorts, kMemory32, kMemory64 };

  // `vectors` of messages, at most PciInterrupts::kMaxVectors; 0: only the pin.
  PciEndpoint(std::string name, const Identity& identity, Subsystem subsystem, const Socket& socket,
              unsigned vectors);

  // In the constructor. `size` is a power of two, of ports at most 256. A 64-bit BAR takes the next
  // index too. `device` answers there, until the function is destroyed.
  void DefineBar(unsigned index, BarKind kind, uint64_t size, Device& device);
  // `size` bytes with the header, which is filled in; where they begin. The last one that is
  // defined is the first that the guest finds.
  uint16_t DefineCapability(pci::Capability kind, uint16_t size);
  void DefineMsi();
  // The tables are at these offsets of a BAR of memory, whose device passes accesses on to them.
  void DefineMsix(unsigned bar, uint32_t table, uint32_t pending_bits);

  void OnConfigWritten(uint16_t offset, size_t size) override;
  void OnConfigRead(uint16_t offset, std::span<uint8_t> data) override;
  // Where the device of BAR `index` begins to answer, or that it does so no more: not the same as
  // what the BAR says, for two may say the same. With the decoder's lock held, and that of the
  // function whose BAR was moved; not from the destructor on.
  virtual void OnBarPlaced(unsigned index, std::optional<uint64_t> start) {
    static_cast<void>(index);
    static_cast<void>(start);
  }

 private:
  struct Bar {
    BarKind kind = BarKind::kMemory32;
    uint64_t size = 0;
    Device* device = nullptr;  // null: there is none
    std::optional<uint64_t> placed;
  };

  static constexpr uint16_t BarOffset(unsigned index) {
    return static_cast<uint16_t>(pci::kBar0 + 4 * index);
  }
  std::optional<uint64_t> WhereIs(unsigned index) const;
  void PlaceBars();
  PciInterrupts::Control ReadControl() const;

  PciDecoder& decoder_;
  PciInterrupts interrupts_;
  std::array<Bar, pci::kBars> bars_;
  uint16_t next_capability_ = pci::kFirstCapability;
  uint16_t msi_ = 0, msix_ = 0;  // where the capabilities are; 0: nowhere
  std::atomic<bool> is_bus_master_ = false;
};

}  // namespace vmm
