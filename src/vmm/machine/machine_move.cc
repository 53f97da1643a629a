// The machine and its engines: making one, moving from one to the other while the guest runs.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "vmm/core/base/log.h"
#include "vmm/core/state/cpu_state_check.h"
#include "vmm/machine/machine.h"
#include "vmm/machine/rescue_watch.h"

namespace vmm {
namespace {

constexpr std::string_view kKvm = "kvm";
// A KVM that was found slow may bring the guest so far before it is left.
constexpr std::chrono::seconds kSlowGrace{2};

bool Equal(const CpuidPolicy& a, const CpuidPolicy& b) {
  return std::equal(a.entries().begin(), a.entries().end(), b.entries().begin(), b.entries().end(),
                    [](const CpuidEntry& x, const CpuidEntry& y) {
                      return x.leaf == y.leaf && x.subleaf == y.subleaf && x.regs == y.regs;
                    });
}

// The state of a processor that has nothing to do until it is loaded anew: no timer runs in it, and
// it writes nothing into the guest's memory.
CpuState Asleep(unsigned id, const CpuidPolicy& cpuid) {
  CpuState state;
  ResetCpuState(state, id, cpuid.signature());
  state.activity = Activity::kWaitForSipi;
  return state;
}

// The TSCs of an engine that lets them run were read one after the other. Those that the guest has
// not set apart are one counter: its latest value.
void AlignTscs(std::vector<CpuState>& states) {
  uint64_t latest = 0;
  for (const CpuState& state : states) {
    if (state.msr.tsc_adjust != states[0].msr.tsc_adjust) return;
    latest = std::max(latest, state.msr.tsc);
  }
  for (CpuState& state : states) state.msr.tsc = latest;
}

}  // namespace

VmParts Machine::PartsWith(const CpuidPolicy& cpuid) {
  return {*memory_,         board_->ports(),
          board_->mmio(),   clock(),
          timers(),         board_->pic(),
          board_->ioapic(), cpuid,
          config_.cpus,     deterministic_ ? &deterministic_->time() : nullptr};
}

Result<std::unique_ptr<Vm>> Machine::CreateVmOf(Accelerator& accelerator,
                                                std::vector<std::unique_ptr<Vcpu>>& vcpus) {
  VmParts parts = PartsWith(engine_.cpuid);
  parts.rescuer = RescuerFor(accelerator);
  parts.count_instructions = config_.statistics;
  parts.perf_map = config_.perf_map;
  parts.lockstep = config_.lockstep;
  parts.translate_aside = TranslateAside::kWorthIt;
  parts.user_cells = config_.accel_cell ? UserCells::kWorthIt : UserCells::kNever;
  auto vm = accelerator.CreateVm(parts);
  if (!vm) return vm;
  for (unsigned id = 0; id < config_.cpus; ++id) {
    auto vcpu = (*vm)->CreateVcpu(id);
    if (!vcpu) {
      vcpus.clear();  // before their Vm
      return tl::unexpected(std::move(vcpu.error()));
    }
    vcpus.push_back(std::move(*vcpu));
  }
  return vm;
}

// Only KVM needs one. Without it an instruction that KVM can't execute ends the run, as it says.
// It executes whatever this host's processor has: there are KVMs under which the guest sees more of
// that than it was promised.
InstructionRescuer* Machine::RescuerFor(const Accelerator& accelerator) {
  if (accelerator.name() != kKvm || !engines_.interpreter) return nullptr;
  if (rescuer_ != nullptr) return rescuer_.get();
  auto engine = engines_.interpreter();
  if (!engine) return nullptr;
  host_cpuid_ =
      CpuidPolicy::Build({.cpu_count = config_.cpus, .tsc_hz = clock().tsc_hz(), .cpu = {}});
  auto rescuer = (*engine)->CreateRescuer(PartsWith(host_cpuid_));
  if (!rescuer) return nullptr;
  rescue_engine_ = std::move(*engine);
  rescuer_ = std::make_unique<RescueWatch>(std::move(*rescuer), [this] {
    supervisor_->LeaveEngine("KVM can't execute many of the guest's instructions");
  });
  return rescuer_.get();
}

void Machine::CatchUpWithGuest() {
  if (const auto time = vm_->GuestTime(); time > clock().Now()) clock().Set(*time);
}

Result<void> Machine::SaveVcpus(std::vector<CpuState>& states) {
  states.resize(config_.cpus);
  Result<void> saved;
  for (unsigned id = 0; id < config_.cpus && saved; ++id) {
    vcpus_.Call(id, [&](Vcpu& vcpu) { saved = vcpu.Save(states[id]); });
    // What the guest can't see of the XSAVE area stays behind.
    MaskXstate(states[id], engine_.cpuid);
  }
  if (vm_->GuestTime()) AlignTscs(states);
  return saved;
}

// KVM, or else the best of the others.
Result<std::unique_ptr<Accelerator>> Machine::ChooseOther() {
  const std::string_view current = engine_.accelerator->name();
  if (current != kKvm) {
    const CpuidOptions options{.cpu_count = config_.cpus,
                               .tsc_hz = clock().tsc_hz(),
                               .mitigations = config_.mitigations,
                               .cpu = config_.cpu};
    ProbedKvm probed = ProbeKvm(engines_.kvm, options);
    if (probed.accelerator != nullptr) {
      CpuidPolicy cpuid = engine_.cpuid;
      probed.accelerator->Restrict(cpuid);
      if (Equal(cpuid, engine_.cpuid)) return std::move(probed.accelerator);
      std::vector<std::string_view> lacking = engine_.cpuid.FeatureNames();
      std::erase_if(lacking, [&](std::string_view name) { return cpuid.Has(name); });
      return Fail(ExitCode::kEngineUnavailable,
                  fmt::format("this host's KVM lacks what the guest's processor has: {}",
                              lacking.empty() ? "its address width"
                                              : fmt::to_string(fmt::join(lacking, ", "))));
    }
    const auto& rest = current == "bt" ? engines_.interpreter : engines_.bt;
    if (rest) return rest();
    return Fail(ExitCode::kEngineUnavailable, probed.result.reason);
  }
  const auto& software = engines_.bt ? engines_.bt : engines_.interpreter;
  if (software) return software();
  return Fail(ExitCode::kEngineUnavailable, "this build has no other engine");
}

Result<void> Machine::MakeOther() {
  if (other_.vm != nullptr) return {};
  auto accelerator = ChooseOther();
  if (!accelerator) return tl::unexpected(std::move(accelerator.error()));
  auto vm = CreateVmOf(**accelerator, other_.vcpus);
  if (!vm) return tl::unexpected(std::move(vm.error()));
  other_.accelerator = std::move(*accelerator);
  other_.vm = std::move(*vm);
  return {};
}

// The old engine's processors keep their state until the new one's have taken it, so that a failure
// changes nothing.
Result<void> Machine::Move(bool unasked) {
  if (deterministic_) {
    return Fail(ExitCode::kUnavailable, "a deterministic run stays on its engine");
  }
  if (unasked && engine_.accelerator->name() != kKvm) {
    return Fail(ExitCode::kEngineUnavailable, "it moves by itself away from KVM only");
  }
  if (auto made = MakeOther(); !made) return made;
  if (debugger_) debugger_->Withdraw();
  board_->PauseDevices();  // an interrupt would reach the engine that is left
  auto moved = MoveVcpus();
  board_->ResumeDevices();
  if (debugger_) debugger_->Renew();
  return moved;
}

Result<void> Machine::MoveVcpus() {
  CatchUpWithGuest();
  std::vector<CpuState> states;
  if (auto saved = SaveVcpus(states); !saved) return saved;
  const auto exchange = [&] {
    vcpus_.Exchange(other_.vcpus);
    std::swap(vm_, other_.vm);
    std::swap(engine_.accelerator, other_.accelerator);
    board_->PlugIn(vm_.get());
  };
  exchange();
  Result<void> loaded;
  for (unsigned id = 0; id < config_.cpus && loaded; ++id) {
    vcpus_.Call(id, [&](Vcpu& vcpu) { loaded = vcpu.Load(states[id]); });
  }
  if (!loaded) exchange();
  for (unsigned id = 0; id < config_.cpus; ++id) {
    static_cast<void>(other_.vcpus[id]->Load(Asleep(id, engine_.cpuid)));
  }
  if (!loaded) return loaded;
  vm_->SetGuestTime(clock().Now());
  slow_timer_.reset();
  Log(LogLevel::kInfo, "the machine moved from " + std::string(other_.accelerator->name()) +
                           " to " + std::string(engine_.accelerator->name()));
  return {};
}

void Machine::WatchSlowKvm() {
  const bool slow = engine_.probe && engine_.probe->verdict == KvmVerdict::kSlow &&
                    engine_.accelerator->name() == kKvm;
  if (!slow) return;
  auto timer =
      HostTimer::Create(*loop_, [this] { supervisor_->LeaveEngine(engine_.probe->reason); });
  if (!timer) return;
  slow_timer_ = std::move(*timer);
  slow_timer_->Start(kSlowGrace);
}

}  // namespace vmm
