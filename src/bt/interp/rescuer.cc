#include "bt/interp/rescuer.h"

#include <fmt/format.h>

#include <algorithm>

#include "bt/interp/cpu.h"
#include "bt/interp/fpu.h"
#include "bt/isa/decoder.h"
#include "vmm/core/base/log.h"

namespace bt {
namespace {

using vmm::CpuState;

// What is shown to the interpreter of a processor whose APIC, timers and clocks are in use
// elsewhere: nothing that would run on its own or write to the guest's memory.
CpuState Quiet(const CpuState& state) {
  CpuState quiet = state;
  quiet.apic.timer_remaining_ns = -1;
  quiet.apic.tsc_deadline = 0;
  quiet.msr.kvm_wall_clock = quiet.msr.kvm_system_time = 0;
  quiet.events.nmi_pending = false;
  quiet.activity = vmm::Activity::kRunning;
  return quiet;
}

// Registers that an access may have changed; the current count changes by itself.
bool ApicWritten(const vmm::LocalApicState& before, const vmm::LocalApicState& after) {
  constexpr size_t kCurrentCount = 0x390 / 4;
  for (size_t i = 0; i < before.regs.size(); ++i) {
    if (i != kCurrentCount && before.regs[i] != after.regs[i]) return true;
  }
  return false;
}

constexpr uint64_t kX87AndSse = 3;  // of XSTATE_BV; they come with the processor

// The instruction at RIP, for people.
std::string NameOf(Cpu& cpu) {
  std::array<uint8_t, 15> bytes;
  size_t have = 0;
  const uint64_t linear =
      cpu.In64() ? cpu.r[kRip] : static_cast<uint32_t>(cpu.seg_base_[1] + cpu.r[kRip]);
  while (have < bytes.size() && cpu.LoadSystem(linear + have, bytes[have])) ++have;
  cpu.fault_ = {};
  Insn insn;
  if (Decode(std::span(bytes).first(have), cpu.code_size_, insn) != DecodeStatus::kOk) {
    return "an unknown instruction";
  }
  return MnemonicName(insn.mnemonic);
}

}  // namespace

Rescuer::Rescuer(const vmm::VmParts& parts) : vm_(parts), cpus_(parts.cpu_count) {}

Rescuer::~Rescuer() {
  uint64_t total = 0;
  std::string names;
  for (const auto& [name, count] : counts_) {
    total += count;
    names += fmt::format("{}{} {}", names.empty() ? "" : ", ", name, count);
  }
  if (total == 0) return;
  vmm::Log(vmm::LogLevel::kInfo,
           fmt::format("instructions that KVM could not execute: {} ({})", total, names));
}

Cpu& Rescuer::CpuOf(unsigned id) {
  std::lock_guard lock(mutex_);
  if (cpus_[id] == nullptr) cpus_[id] = std::move(vm_.CreateVcpu(id).value());
  return static_cast<Cpu&>(*cpus_[id]);
}

void Rescuer::Count(const std::string& name, uint64_t rip) {
  {
    std::lock_guard lock(mutex_);
    if (counts_[name]++ > 0) return;
  }
  vmm::Log(vmm::LogLevel::kWarning,
           fmt::format("KVM can't execute {} (at {:#x}); the interpreter does it from now on", name,
                       rip));
}

vmm::Result<vmm::Rescue> Rescuer::Finish(unsigned id, CpuState& state) {
  Cpu& cpu = CpuOf(id);
  const CpuState before = Quiet(state);
  if (auto loaded = cpu.Load(before); !loaded) return tl::unexpected(loaded.error());
  CpuState apic_before, after;
  if (auto saved = cpu.Save(apic_before); !saved) return tl::unexpected(saved.error());

  const bool instruction = !state.events.exception_pending && !state.events.interrupt_pending;
  const std::string name = instruction ? NameOf(cpu) : "the delivery of an event";
  vm_.EnterGuest(cpu);
  const bool alive = cpu.FinishOne();
  vm_.LeaveGuest(cpu);
  if (auto saved = cpu.Save(after); !saved) return tl::unexpected(saved.error());
  if (ApicWritten(apic_before.apic, after.apic)) {
    return vmm::Fail(vmm::ExitCode::kEngineFailed,
                     fmt::format("KVM can't execute {} at {:#x}, which writes to the local APIC",
                                 name, state.rip));
  }
  Count(name, state.rip);

  // What is not the instruction's: see Quiet().
  after.apic = state.apic;
  after.events.nmi_pending = state.events.nmi_pending;
  after.events.sipi_vector = state.events.sipi_vector;
  after.events.smi_masked = state.events.smi_masked;
  after.msr.kvm_wall_clock = state.msr.kvm_wall_clock;
  after.msr.kvm_system_time = state.msr.kvm_system_time;
  after.msr.tsc = state.msr.tsc;
  // The interpreter calls every component that it has in use.
  FpuState fpu(after.xsave);
  const uint64_t had = FpuState(state.xsave).Get<uint64_t>(FpuState::kXstateBv);
  fpu.Set<uint64_t>(FpuState::kXstateBv, fpu.Get<uint64_t>(FpuState::kXstateBv) &
                                             (had | state.xcr0 | after.xcr0 | kX87AndSse));
  state = after;
  return alive ? vmm::Rescue::kDone : vmm::Rescue::kShutdown;
}

}  // namespace bt
