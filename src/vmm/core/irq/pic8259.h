// The two 8259A interrupt controllers of a PC, the slave at pin 2 of the master, and the edge/level
// control registers. [8259A], [PIIX3] ELCR
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <span>

#include "vmm/core/base/result.h"
#include "vmm/core/bus/device_part.h"
#include "vmm/core/irq/irq_line.h"
#include "vmm/core/irq/pic8259_chip.h"

namespace vmm {

struct Pic8259PairState {
  static constexpr uint32_t kVersion = 1;
  uint32_t version = kVersion;
  std::array<Pic8259ChipState, 2> chips;  // master, slave
  friend bool operator==(const Pic8259PairState&, const Pic8259PairState&) = default;
};

// Threads: everything from any thread. `listener` is called after the lock is dropped, on each
// change of INTR; two calls may arrive in either order, so it samples IntrAsserted().
class Pic8259Pair final : public ExtIntSource {
 public:
  static constexpr uint16_t kMasterPort = pic8259::kMasterPort;  // 2 ports each
  static constexpr uint16_t kSlavePort = pic8259::kSlavePort;
  static constexpr uint16_t kElcrPort = pic8259::kElcrPort;
  static constexpr unsigned kPins = 16;

  explicit Pic8259Pair(ExtIntListener& listener);

  Device& master() { return master_port_; }
  Device& slave() { return slave_port_; }
  Device& elcr() { return elcr_port_; }

  // ISA interrupt `pin` below 16; 2 is the cascade and has no pin.
  void Set(unsigned pin, bool level);

  bool IntrAsserted() const override { return intr_.load(std::memory_order_acquire); }
  // With no request left: 7 of the chip that asked. [8259A] "Interrupt sequence"
  uint8_t AcknowledgeInterrupt() override;

  void Reset();
  Pic8259PairState Save() const;
  Result<void> Load(const Pic8259PairState& state);

 private:
  template <unsigned kChip>
  void ReadPort(uint64_t offset, std::span<uint8_t> data);
  template <unsigned kChip>
  void WritePort(uint64_t offset, std::span<const uint8_t> data);
  void ReadElcr(uint64_t offset, std::span<uint8_t> data);
  void WriteElcr(uint64_t offset, std::span<const uint8_t> data);

  bool Settle();  // with the lock held; true: INTR changed
  void Tell(bool changed) {
    if (changed) listener_.ExtIntChanged();
  }

  DevicePart<Pic8259Pair> master_port_;
  DevicePart<Pic8259Pair> slave_port_;
  DevicePart<Pic8259Pair> elcr_port_;
  ExtIntListener& listener_;

  mutable std::mutex mutex_;  // guards all below but intr_
  std::array<Pic8259Chip, 2> chips_;
  bool asked_for_slave_ = false;  // what INTR last stood for
  std::atomic<bool> intr_{false};
};

}  // namespace vmm
