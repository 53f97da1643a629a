// A local APIC for engines that have none in the kernel: xAPIC and x2APIC with timer. [SDM 3A] 10
//
// What an engine does with it, on the vCPU's own thread:
//   at each point where an interrupt may be taken: if (HasAttention()) then, in this order,
//     TakeInit()       -> reset the processor, call InitReset(), wait for SIPI unless it is the BSP
//     TakeSipi()       -> when waiting for SIPI: start at vector << 12; else drop it
//     TakeNmi()        -> when NMIs are not blocked: vector 2
//     Acknowledge()    -> when RFLAGS.IF allows: deliver the vector
//   MMIO at a page that Claims() accepts, the MSRs that HandlesMsr() names, and CR8 come here.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>

#include "vmm/core/base/result.h"
#include "vmm/core/base/types.h"
#include "vmm/core/irq/apic_bus.h"
#include "vmm/core/irq/apic_timer.h"
#include "vmm/core/irq/local_apic_regs.h"
#include "vmm/core/state/cpu_state.h"
#include "vmm/core/time/clock.h"

namespace vmm {

// Threads: everything may be called from any thread. The queries marked lock-free read one atomic;
// they are exact: an interrupt accepted before the call shows, one acknowledged before does not.
// No lock is held while Host, the bus, the 8259 or the EoiListener is called.
class LocalApic {
 public:
  class Host {
   public:
    virtual ~Host() = default;
    // Something became deliverable: an interrupt, NMI, INIT or SIPI. Any thread (the vCPU's own as
    // well: EOI, TPR writes and self IPIs come to this). Not repeated while it stays deliverable.
    virtual void OnApicAttention() = 0;
  };

  // Joins `bus`; all references outlive the APIC. Starts in the state of Reset().
  LocalApic(unsigned id, const Clock& clock, TimerService& timers, ApicBus& bus, Host& host);
  ~LocalApic();
  LocalApic(const LocalApic&) = delete;
  LocalApic& operator=(const LocalApic&) = delete;

  unsigned id() const { return id_; }

  // --- What waits for the processor. All lock-free. ---
  // Anything at all: the one load for the hot path.
  bool HasAttention() const { return attention_.load(std::memory_order_acquire) & kAnyAttention; }
  // A maskable interrupt that TPR and PPR let through, or ExtINT.
  bool HasDeliverable() const {
    static_assert(kDeliverable == (kInterrupt | kExtInt));
    return attention_.load(std::memory_order_acquire) & kDeliverable;
  }
  // For code that looks by itself: HasDeliverable() is whether a bit of kDeliverable is set there.
  const std::atomic<uint32_t>& attention() const { return attention_; }
  static constexpr uint32_t kDeliverable = 1 | 2;
  bool HasNmi() const { return attention_.load(std::memory_order_acquire) & kNmi; }
  bool HasInit() const { return attention_.load(std::memory_order_acquire) & kInit; }
  bool HasSipi() const { return attention_.load(std::memory_order_acquire) & kSipi; }

  // --- Taking it. ---
  // Accepts the highest interrupt: its vector (0 to 255), now in service; the INTA cycle for
  // ExtINT, which comes first. -1: nothing deliverable (any more).
  int Acknowledge();
  bool TakeNmi();
  bool TakeInit();
  int TakeSipi();  // the vector, -1 if none

  // --- The processor's accesses. ---
  // Whether this page of the guest-physical space is the APIC's now (xAPIC mode only).
  bool Claims(GuestPhys address) const {
    const uint64_t base = apic_base_.load(std::memory_order_relaxed);
    return (base & (apic::Bit(apic::Base::EN) | apic::Bit(apic::Base::EXTD))) ==
               apic::Bit(apic::Base::EN) &&
           ((address.value ^ base) & ~(kPageSize - 1)) == 0;
  }
  // `offset` in the page. Registers are 32 bits wide at multiples of 16; other bytes read as 0.
  // Writes of less than 32 bits, or not at such a multiple, vanish.
  void Read(uint64_t offset, std::span<uint8_t> data);
  void Write(uint64_t offset, std::span<const uint8_t> data);

  static constexpr bool HandlesMsr(uint32_t index) {
    return (index >= apic::kMsrBase && index <= apic::kMsrLast) || index == apic::kMsrApicBase ||
           index == apic::kMsrTscDeadline;
  }
  // False: #GP(0).
  bool ReadMsr(uint32_t index, uint64_t* value);
  bool WriteMsr(uint32_t index, uint64_t value);

  uint64_t apic_base() const { return apic_base_.load(std::memory_order_relaxed); }
  uint8_t cr8() const { return tpr_.load(std::memory_order_relaxed) >> 4; }
  void set_cr8(uint8_t value);  // bits 3:0 [SDM 3A] 10.8.6.1; the caller raises #GP for others

  // IA32_TSC = Clock::Tsc() + offset on this processor: for the TSC deadline.
  void SetTscOffset(int64_t offset);
  // Bits of IA32_APIC_BASE from here up are reserved (#GP). 52 at first.
  void SetPhysicalAddressBits(unsigned bits) { physical_address_bits_ = bits; }

  // --- Resets. ---
  // RESET#: xAPIC mode at the default address. APIC 0 is the boot processor; its LINT0 is set up
  // for the 8259 (ExtINT, unmasked), as firmware and KVM leave it.
  void Reset();
  // INIT: all but the id and IA32_APIC_BASE. [SDM 3A] 10.4.7.3
  void InitReset();

  // --- Wires and messages. ---
  void PostNmi();     // an NMI, whatever LINT1 says
  void PulseLint1();  // the NMI button: what the LVT makes of it
  // From ApicBus: the processor is among the destinations.
  void Deliver(apic::DeliveryMode mode, uint8_t vector, bool level);
  void ExtIntChanged();

  // --- Saved form. Pending NMI, INIT and SIPI are not in it: see CpuState::Events. ---
  LocalApicState Save() const;
  // kConfigInvalid, and nothing changed, when `state` is none that Save() can give for this id.
  Result<void> Load(const LocalApicState& state, uint64_t apic_base);

 private:
  friend class ApicBus;
  enum Attention : uint32_t {
    kInterrupt = 1,  // highest IRR above PPR
    kExtInt = 2,     // the 8259 asserts INTR and LINT0, or an ExtINT message, lets it through
    kNmi = 4,
    kInit = 8,
    kSipi = 16,
    kAnyAttention = 31,
  };
  using Vectors = std::array<uint32_t, 8>;  // one bit a vector

  // What the bus needs to know to decode a destination, in one atomic.
  struct Routing {
    bool enabled, x2apic, software_enabled, cluster;
    uint32_t ldr;
  };
  Routing routing() const;
  uint8_t ppr() const { return ppr_.load(std::memory_order_relaxed); }

  bool x2apic() const { return apic_base() & apic::Bit(apic::Base::EXTD); }
  bool hardware_enabled() const { return apic_base() & apic::Bit(apic::Base::EN); }
  bool software_enabled() const { return svr_ & apic::Bit(apic::Svr::ENABLE); }

  // What is to be done once the mutex is released.
  struct After {
    bool send = false;
    ApicMessage message;
    int eoi_vector = -1;  // tell the EoiListener
    bool attention = false;
  };
  void Do(const After& after);

  // Called with mutex_ held.
  void ResetRegisters();
  void SetBase(uint64_t base, After& after);
  std::optional<uint32_t> ReadRegister(apic::Reg reg) const;        // none: no such register
  bool WriteRegister(apic::Reg reg, uint32_t value, After& after);  // false: no such register
  bool WriteX2Apic(uint32_t index, uint64_t value, After& after);   // false: #GP
  bool BaseBitsAreLegal(uint64_t base) const;
  bool BaseIsLegal(uint64_t base) const;  // also as a change from what it is now
  uint32_t X2ApicLdr() const { return id_ >> 4 << 16 | 1u << (id_ & 0xf); }
  void RestoreMasked(const LocalApicState& state);
  void WriteIcr(uint32_t low, uint32_t high, After& after);
  void WriteSvr(uint32_t value, After& after);
  void WriteLvt(unsigned index, uint32_t value, After& after);
  void EndOfInterrupt(After& after);
  void Accept(uint8_t vector, bool level, After& after);
  void DeliverLvt(unsigned index, After& after);
  void RaiseError(apic::Esr error, After& after);
  void SampleLint0(After& after);
  bool Lint0TakesExtInt() const;
  void Raise(uint32_t bits, After& after);
  void Update(After& after);  // PPR and the attention bits, after any change
  void PublishRouting();
  void OnTimer();

  const unsigned id_;
  ApicBus& bus_;
  Host& host_;
  unsigned physical_address_bits_ = 52;

  mutable std::mutex mutex_;
  std::atomic<uint32_t> attention_{0};
  std::atomic<uint64_t> apic_base_{0};
  std::atomic<uint64_t> routing_{0};
  std::atomic<uint8_t> tpr_{0}, ppr_{0};

  Vectors irr_{}, isr_{}, tmr_{};
  uint32_t svr_ = 0xff, ldr_ = 0, dfr_ = ~0u;
  uint32_t icr_low_ = 0, icr_high_ = 0;
  uint32_t esr_ = 0, esr_latch_ = 0;  // what the guest reads; what has piled up since
  std::array<uint32_t, 6> lvt_{};     // timer, thermal, perfmon, LINT0, LINT1, error
  uint32_t divide_ = 0;
  bool lint0_ = false;            // the wire when it was last sampled
  bool ext_int_message_ = false;  // an ExtINT message waits for its INTA cycle
  uint8_t sipi_vector_ = 0;
  ApicTimer timer_;  // last: its callback uses the rest
};

}  // namespace vmm
