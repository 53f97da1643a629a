// The interpreter set up like the native side: 64-bit user mode, the same pages at the same places.
#pragma once

#include <memory>
#include <span>

#include "../support/fake_clock.h"
#include "native_cpu.h"
#include "vmm/core/accel/accelerator.h"

namespace bt {
class Cpu;
}

namespace difftest {

class GuestCpu {
 public:
  GuestCpu();
  ~GuestCpu();
  std::span<uint8_t> writable() { return {ram_ + kWritableFrame, 0x2000}; }
  std::span<uint8_t> read_only() { return {ram_ + kReadOnlyFrame, 0x1000}; }
  Outcome Run(std::span<const uint8_t> code, Registers& registers);

 private:
  static constexpr uint64_t kCodeFrame = 0x10000, kWritableFrame = 0x20000,
                            kReadOnlyFrame = 0x24000;
  void BuildPageTables();

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
