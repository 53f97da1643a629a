// The I/O APIC: 24 interrupt lines become messages to local APICs. [IOAPIC], version 0x20 as in
// [ICH9]
#pragma once

#include <array>
#include <cstdint>
#include <mutex>
#include <span>
#include <string_view>

#include "vmm/core/base/result.h"
#include "vmm/core/base/types.h"
#include "vmm/core/bus/device.h"
#include "vmm/core/irq/ioapic_regs.h"
#include "vmm/core/irq/irq_line.h"

namespace vmm {

struct IoapicState {
  static constexpr uint32_t kVersion = 1;
  uint32_t version = kVersion;
  uint8_t IOREGSEL = 0;
  uint32_t IOAPICID = 0;
  uint32_t lines = 0;  // asserted pins
  std::array<uint64_t, ioapic::kPins> IOREDTBL{};
  friend bool operator==(const IoapicState&, const IoapicState&) = default;
};

// An edge on a masked pin is lost; a level counts when the pin is unmasked. Whatever polarity an
// entry says, true on a line is "asserted".
//
// Threads: everything from any thread. Messages leave with the lock held, so that none overtakes a
// write that masks its pin.
class Ioapic final : public Device, public EoiListener {
 public:
  static constexpr GuestPhys kDefaultBase{0xFEC00000};
  static constexpr uint64_t kSize = kPageSize;
  static constexpr unsigned kPins = ioapic::kPins;

  explicit Ioapic(IoapicOutput& output);

  std::string_view name() const override { return "ioapic"; }
  void Read(uint64_t offset, std::span<uint8_t> data) override;
  void Write(uint64_t offset, std::span<const uint8_t> data) override;

  void Set(unsigned pin, bool level);  // below kPins
  void OnEoi(uint8_t vector) override;

  // Tells the output all routes again: it is new.
  void PublishRoutes();

  void Reset();  // the lines stay what they are
  IoapicState Save() const;
  Result<void> Load(const IoapicState& state);

 private:
  // With the lock held.
  uint32_t ReadIndex() const;
  void WriteIndex(uint32_t value);
  void WriteEntry(unsigned pin, bool high, uint32_t value);
  void EndOfInterrupt(uint8_t vector);
  void Serve(unsigned pin);  // sends if a level is asserted and may
  void Send(unsigned pin);
  void Publish(unsigned pin);

  IoapicOutput& output_;
  mutable std::mutex mutex_;  // guards the state
  IoapicState state_;
};

}  // namespace vmm
