// How a PCI function interrupts: by its pin, by MSI or by MSI-X. [PCI] 2.2.6, 6.8
#pragma once

#include <array>
#include <cstdint>
#include <mutex>
#include <span>

#include "vmm/core/base/result.h"
#include "vmm/core/bus/device_part.h"
#include "vmm/core/irq/irq_line.h"

namespace vmm {

struct PciInterruptsState {
  static constexpr unsigned kMaxVectors = 64;
  static constexpr uint32_t kVersion = 1;
  uint32_t version = kVersion;
  bool pin = false;      // asserted by the device
  uint64_t pending = 0;  // a bit a vector
  std::array<std::array<uint32_t, 4>, kMaxVectors> table{};
  friend bool operator==(const PciInterruptsState&, const PciInterruptsState&) = default;
};

// Threads: any. Messages leave with the lock held, so that none overtakes a write that masks it.
// Lock rank: after the devices, before the interrupt wires.
class PciInterrupts {
 public:
  static constexpr unsigned kMaxVectors = PciInterruptsState::kMaxVectors;

  enum class Mode : uint8_t { kPin, kMsi, kMsix };
  // What configuration space says.
  struct Control {
    Mode mode = Mode::kPin;
    bool pin_disabled = false;
    bool may_send = false;     // messages: the function is bus master
    bool all_masked = false;   // of MSI-X
    MsiMessage msi{};          // of vector 0
    unsigned msi_vectors = 1;  // that were granted, a power of two
    uint32_t msi_masked = 0;
  };

  // `vectors`: of MSI-X, or else of MSI; at most kMaxVectors.
  PciInterrupts(IrqLine& pin, MsiSink& sink, unsigned vectors);
  PciInterrupts(const PciInterrupts&) = delete;
  PciInterrupts& operator=(const PciInterrupts&) = delete;

  // The device's side. The pin is a level, and silent while messages are enabled.
  void SetPin(bool asserted);
  bool pin() const;
  // In kPin mode nothing happens.
  void Send(unsigned vector);
  Mode mode() const;
  unsigned vectors() const { return vectors_; }
  uint64_t pending() const;  // a bit a vector

  // The function's side.
  void SetControl(const Control& control);
  // The tables of MSI-X, for a base address register.
  Device& table() { return table_; }
  Device& pending_bits() { return pending_bits_; }
  uint64_t table_size() const { return uint64_t{vectors_} * 16; }  // bytes
  static constexpr uint64_t kPendingSize = kMaxVectors / 8;

  void Reset();
  PciInterruptsState Save() const;
  Result<void> Load(const PciInterruptsState& state);

 private:
  void ReadTable(uint64_t offset, std::span<uint8_t> data);
  void WriteTable(uint64_t offset, std::span<const uint8_t> data);
  void ReadPending(uint64_t offset, std::span<uint8_t> data);
  void IgnoreWrite(uint64_t, std::span<const uint8_t>) {}
  // With the lock held.
  void Update();
  bool Masked(unsigned vector) const;
  MsiMessage MessageOf(unsigned vector) const;

  IrqLine& pin_;
  MsiSink& sink_;
  const unsigned vectors_;
  DevicePart<PciInterrupts> table_, pending_bits_;

  mutable std::mutex mutex_;
  Control control_;
  bool pin_is_high_ = false;  // as the wire was told
  PciInterruptsState state_;
};

}  // namespace vmm
