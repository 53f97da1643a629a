// The interpreter as an engine: complete and plainly right. It runs where nothing else can, and is
// the reference that every faster tier is held against.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <vector>

#include "bt/interp/debugger.h"
#include "bt/interp/feature_set.h"
#include "bt/interp/tier.h"
#include "vmm/core/accel/accelerator.h"
#include "vmm/core/irq/apic_bus.h"
#include "vmm/core/memory/ram_ahead.h"

namespace bt {

class Cpu;

class InterpreterAccelerator final : public vmm::Accelerator {
 public:
  std::string_view name() const override { return "interpreter"; }
  vmm::Result<std::unique_ptr<vmm::Vm>> CreateVm(const vmm::VmParts& parts) override;
  vmm::Result<std::unique_ptr<vmm::InstructionRescuer>> CreateRescuer(
      const vmm::VmParts& parts) override;
};

// What the vCPUs share: memory, buses, APIC bus, and the record of which pages hold decoded code.
class InterpreterVm final : public vmm::Vm {
 public:
  // `make_tier`: what stands above each vCPU's interpreter, if anything.
  using MakeTierFunction = std::unique_ptr<Tier> (*)(Cpu&);
  explicit InterpreterVm(const vmm::VmParts& parts, MakeTierFunction make_tier = nullptr);
  ~InterpreterVm() override;

  vmm::Result<std::unique_ptr<vmm::Vcpu>> CreateVcpu(unsigned id) override;
  void SendMsi(vmm::MsiMessage message) override { apic_bus_.SendMsi(message); }
  void ExtIntChanged() override;
  void InjectNmi(unsigned cpu) override;
  void SetA20(bool open) override;
  void IoapicRouteChanged(unsigned, vmm::MsiMessage, bool, bool) override {}
  void OnHostWrite(vmm::GuestPhys start, uint64_t length) override;
  vmm::Result<void> SetDebugPoints(std::span<const vmm::DebugPoint> points,
                                   const vmm::CpuState& context) override;

  // From now on, for a machine that runs here: a thread allocates RAM ahead of the guest.
  void AllocateRamAhead();

  bool has_tier() const { return make_tier_ != nullptr; }
  std::unique_ptr<Tier> MakeTier(Cpu& cpu) const { return make_tier_ ? make_tier_(cpu) : nullptr; }
  const vmm::VmParts& parts() const { return parts_; }
  const FeatureSet& features() const { return features_; }
  vmm::ApicBus& apic_bus() { return apic_bus_; }
  uint64_t address_mask() const { return address_mask_.load(std::memory_order_relaxed); }
  const DebugPoints& debug_points() const { return debug_points_; }
  void Forget(Cpu* cpu);

  // ---- Pages with decoded code. Bit n of a page's mask: vCPU n has blocks there. No TLB of any
  // vCPU lets such a page be written unseen.
  uint8_t CodeMask(uint64_t phys) const { return code_pages_[PageIndex(phys)].load(); }
  // Before `cpu` decodes from the page; stops the world where another vCPU's TLB may let it be
  // written.
  void MarkCode(Cpu& cpu, uint64_t phys);
  // Before vCPU `cpu` puts a write entry for the page into its TLB. False: it may not, for the page
  // holds code.
  bool MayWrite(unsigned cpu, uint64_t phys) {
    if (ram_ahead_) ram_ahead_->OnWriter(PageIndex(phys) * vmm::kPageSize);
    std::atomic<uint8_t>& writers = writers_[PageIndex(phys)];
    const uint8_t bit = static_cast<uint8_t>(1u << cpu);
    // Either this finds the mark, or MarkCode() finds the bit, and waits until the entry is there
    // to be taken away: both orders are of sequential consistency.
    if (!(writers.load(std::memory_order_relaxed) & bit)) writers.fetch_or(bit);
    return CodeMask(phys) == 0;
  }
  void UnmarkCode(const Cpu& cpu, uint64_t phys);
  // `writer` (null: host code) wrote; every other vCPU with code there hears of it.
  void CodeWritten(const Cpu* writer, uint64_t phys, uint64_t size);

  // ---- World stop: page-crossing atomics, TLB surgery on other vCPUs. Reentrant from no thread.
  // Runs `action` while no other vCPU executes guest code.
  template <class F>
  void Exclusive(Cpu& self, F&& action) {
    BeginExclusive(self);
    action();
    EndExclusive(self);
  }
  // A vCPU enters and leaves guest execution; entering waits for a stopped world to go on.
  void EnterGuest(Cpu& cpu);
  void LeaveGuest(Cpu& cpu);

 private:
  // Of RAM or ROM, which comes behind it.
  uint64_t PageIndex(uint64_t phys) const {
    const vmm::RamRegion* rom = parts_.memory.rom();
    if (rom != nullptr && phys - rom->start.value < rom->size)
      return (parts_.memory.size() + phys - rom->start.value) >> 12;
    return (phys >= 4 * vmm::kGiB ? phys - 4 * vmm::kGiB + vmm::GuestMemory::kLowRamEnd : phys) >>
           12;
  }
  static uint64_t PageCount(const vmm::GuestMemory& memory) {
    return (memory.size() + (memory.rom() ? memory.rom()->size : 0)) >> 12;
  }
  void BeginExclusive(Cpu& self);
  void EndExclusive(Cpu& self);

  vmm::VmParts parts_;
  const MakeTierFunction make_tier_;
  const FeatureSet features_;
  vmm::ApicBus apic_bus_;
  DebugPoints debug_points_;
  std::vector<Cpu*> cpus_;
  std::unique_ptr<std::atomic<uint8_t>[]> code_pages_;
  // Bit n: vCPU n may have write entries for the page. Cleared only by the vCPU itself, or while
  // the world is stopped.
  std::unique_ptr<std::atomic<uint8_t>[]> writers_;
  std::unique_ptr<vmm::RamAhead> ram_ahead_;          // null: nobody does
  std::atomic<uint64_t> address_mask_{~uint64_t{0}};  // without bit 20 while A20 is closed
  std::mutex exclusive_mutex_;
  std::atomic<bool> world_stopped_{false};
  std::mutex park_mutex_;
  std::condition_variable park_;
};

}  // namespace bt
