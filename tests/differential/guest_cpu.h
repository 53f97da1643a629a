// An engine of ours set up like the native side: user mode, in a 64-bit or a 32-bit code segment,
// the same pages at the same places.
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

// The translator in our process, and in the one that it has for users.
enum class Engine { kInterpreter, kTranslator, kCell };

class GuestCpu {
 public:
  GuestCpu(Engine engine, bt::CodeSize code_size);
  ~GuestCpu();
  std::span<uint8_t> writable() { return {ram_ + kWritableFrame, 0x2000}; }
  std::span<uint8_t> read_only() { return {ram_ + kReadOnlyFrame, 0x1000}; }
  // In the interpreter.
  Outcome Run(const Case& test, Registers& registers);
  // In the interpreter, `steps` instructions, of which the case stands between `before` and
  // `after`.
  Outcome RunSteps(const Case& test, std::span<const uint8_t> before,
                   std::span<const uint8_t> after, unsigned steps, Registers& registers);
  // In translated code, between `before` and `after`.
  Outcome RunTranslated(const Case& test, std::span<const uint8_t> before,
                        std::span<const uint8_t> after, Registers& registers);
  // Of those, the cases of which the block was translated.
  uint64_t translated() const { return translated_; }
  // To the cell and back.
  uint64_t hand_overs() const;
  const bt::FeatureSet& features() const;

 private:
  static constexpr uint64_t kCodeFrame = 0x10000, kWritableFrame = 0x20000,
                            kReadOnlyFrame = 0x24000;
  uint8_t* Code(uint64_t linear) { return ram_ + kCodeFrame + (linear - kCode); }
  void StoreCode(const Case& test, std::span<const uint8_t> before, std::span<const uint8_t> after);
  void LoadRegisters(uint64_t rip, const Registers& registers);
  Outcome StoreRegisters(Registers& registers);
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
  uint64_t translated_ = 0;
};

}  // namespace difftest
