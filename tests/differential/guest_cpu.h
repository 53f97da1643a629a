// The interpreter set up like the native side: user mode, in a 64-bit or a 32-bit code segment, the
// same pages at the same places.
#pragma once

#include <memory>
#include <span>

#include "../support/fake_clock.h"
#include "bt/interp/feature_set.h"
#include "case.h"
#include "vmm/core/accel/accelerator.h"

namespace bt {
class Cpu;
}

namespace difftest {

class GuestCpu {
 public:
  explicit GuestCpu(bt::CodeSize code_size);
  ~GuestCpu();
  std::span<uint8_t> writable() { return {ram_ + kWritableFrame, 0x2000}; }
  std::span<uint8_t> read_only() { return {ram_ + kReadOnlyFrame, 0x1000}; }
  Outcome Run(const Case& test, Registers& registers);
  const bt::FeatureSet& features() const;

 private:
  static constexpr uint64_t kCodeFrame = 0x10000, kWritableFrame = 0x20000,
                            kReadOnlyFrame = 0x24000;
  void BuildPageTables();
  void LoadState(bt::CodeSize code_size);

  class NoPic;
  class NoIoapic;
  std::unique_ptr<NoPic> pic_;
  std::unique_ptr<NoIoapic> ioapic_;
  vmm::FakeClock clock_;
  vmm::FakeTimers timers_{clock_};
  vmm::GuestMemory memory_;
  vmm::Bus ports_{0x10000}, mmio_{1ull << 52};
  vmm::CpuidPolicy cpuid_;
  uint8_t* ram_;
  std::unique_ptr<vmm::Vm> vm_;
  std::unique_ptr<vmm::Vcpu> vcpu_;
  bt::Cpu* cpu_;
  vmm::CpuState state_;
};

}  // namespace difftest
