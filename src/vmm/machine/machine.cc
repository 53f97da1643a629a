#include "vmm/machine/machine.h"

#include <signal.h>
#include <string.h>
#include <sys/epoll.h>

#include <string>

#include "vmm/acpi/acpi_tables.h"
#include "vmm/acpi/mp_table.h"
#include "vmm/boot/boot_cpu.h"
#include "vmm/boot/load_kernel.h"
#include "vmm/boot/memory_map.h"
#include "vmm/core/base/log.h"
#include "vmm/machine/engine_sources.h"

namespace vmm {
namespace {

std::string SignalName(int number) {
  const char* name = sigabbrev_np(number);
  return name == nullptr ? "signal " + std::to_string(number) : "SIG" + std::string(name);
}

// Puts what was made into its member.
template <class T>
Result<void> Take(Result<T> made, T& into) {
  if (!made) return tl::unexpected(std::move(made.error()));
  into = std::move(*made);
  return {};
}

}  // namespace

Result<std::unique_ptr<Machine>> Machine::Create(const Config& config) {
  EngineSources engines = DefaultEngines();
  return Create(config, engines);
}

Result<std::unique_ptr<Machine>> Machine::Create(const Config& config, EngineSources& engines) {
  std::unique_ptr<Machine> machine(new Machine(config));
  return machine->MakeHostSide()
      .and_then([&] { return machine->MakeBoard(); })
      .and_then([&] { return machine->MakeEngine(engines); })
      .and_then([&] { return machine->LoadGuest(/*memory_is_zero=*/true); })
      .map([&] { return std::move(machine); });
}

Machine::~Machine() {
  vcpus_.Clear();
  if (board_) board_->PlugIn(nullptr);
}

Result<void> Machine::MakeHostSide() {
  if (auto made = Take(HostSignals::Create(), signals_); !made) return made;
  auto memory = GuestMemory::Create(config_.memory);
  if (!memory) return tl::unexpected(std::move(memory.error()));
  memory_ = std::make_unique<GuestMemory>(std::move(*memory));
  if (auto made = Take(EventLoop::Create(clock_), loop_); !made) return made;
  if (auto added = loop_->AddFd(signals_->fd(), EPOLLIN, [this](uint32_t) { OnSignals(); });
      !added) {
    return added;
  }
  const Supervisor::Hooks hooks{[this] { return Reset(); }, [this] { board_->PressPowerButton(); }};
  if (auto made = Take(Supervisor::Create({config_, *loop_, clock_, vcpus_}, hooks), supervisor_);
      !made) {
    return made;
  }
  Supervisor& supervisor = *supervisor_;
  return Take(Consoles::Create(config_, *loop_,
                               {[&supervisor](unsigned console, std::span<const uint8_t> data) {
                                  supervisor.OnConsoleOutput(console, data);
                                },
                                [&supervisor] { supervisor.StopNow("Ctrl-A x"); },
                                [&supervisor] { supervisor.PressPowerButton(); }}),
              consoles_);
}

Result<void> Machine::MakeBoard() {
  Supervisor& supervisor = *supervisor_;
  Board::Events events{
      [&supervisor] { supervisor.OnPowerOff(); },
      [&supervisor](std::string_view source) { supervisor.OnResetRequest(source); },
      [&supervisor](uint32_t value) { supervisor.OnDebugExit(value); },
      [&supervisor] { supervisor.OnPvPanic(); }};
  return Take(Board::Create({config_, *memory_, clock_, *loop_, consoles_->backends(),
                             consoles_->debug_console()},
                            std::move(events)),
              board_);
}

Result<void> Machine::MakeEngine(EngineSources& engines) {
  const CpuidOptions options{.cpu_count = config_.cpus, .tsc_hz = clock_.tsc_hz()};
  if (auto chosen = Take(ChooseEngine(config_.accel, options, engines), engine_); !chosen) {
    return chosen;
  }
  const VmParts parts{*memory_,      board_->ports(),  board_->mmio(), clock_,      *loop_,
                      board_->pic(), board_->ioapic(), engine_.cpuid,  config_.cpus};
  if (auto made = Take(engine_.accelerator->CreateVm(parts), vm_); !made) return made;
  board_->PlugIn(vm_.get());
  for (unsigned id = 0; id < config_.cpus; ++id) {
    auto vcpu = vm_->CreateVcpu(id);
    if (!vcpu) return tl::unexpected(std::move(vcpu.error()));
    vcpus_.Add(std::move(*vcpu), [this](unsigned cpu, const RunResult& result) {
      supervisor_->OnVcpuExit(cpu, result);
    });
  }
  return {};
}

void Machine::OnSignals() {
  for (const int signal : signals_->Take()) {
    if (signal == SIGQUIT) {
      supervisor_->StopNow(SignalName(signal));
    } else {
      supervisor_->RequestStop(SignalName(signal));
    }
  }
}

Result<void> Machine::LoadGuest(bool memory_is_zero) {
  AcpiConfig acpi;
  acpi.cpu_count = config_.cpus;
  auto rsdp = BuildAcpiTables(acpi, *memory_);
  if (!rsdp) return tl::unexpected(std::move(rsdp.error()));
  WriteMpTable(acpi, *memory_);

  BootRequest request;
  request.kernel = config_.kernel;
  request.initrd = config_.initrd;
  request.command_line = config_.append;
  for (const ModuleSpec& module : config_.modules) {
    request.modules.push_back({module.path, module.args});
  }
  request.acpi_rsdp = *rsdp;
  request.memory_is_zero = memory_is_zero;
  states_.resize(config_.cpus);
  for (unsigned id = 0; id < config_.cpus; ++id) {
    ResetCpuState(states_[id], id, engine_.cpuid.signature());
    if (id != 0) ApplyFirmwareCpuState(states_[id], /*boot_cpu=*/false);
  }
  auto entry = LoadKernel(request, *memory_, states_[0]);
  if (!entry) return tl::unexpected(std::move(entry.error()));
  return {};
}

Result<void> Machine::LoadVcpus() {
  Result<void> loaded;
  for (unsigned id = 0; id < config_.cpus && loaded; ++id) {
    vcpus_.Call(id, [&](Vcpu& vcpu) { loaded = vcpu.Load(states_[id]); });
  }
  states_ = {};
  return loaded;
}

Result<void> Machine::Reset() {
  board_->Reset();
  if (auto loaded = LoadGuest(/*memory_is_zero=*/false); !loaded) return loaded;
  for (const RamRegion& region : memory_->regions()) vm_->OnHostWrite(region.start, region.size);
  return LoadVcpus();
}

Result<void> Machine::StartVcpus() {
  return vcpus_.Start().and_then([&] { return LoadVcpus(); });
}

RunOutcome Machine::Run() {
  Log(LogLevel::kInfo, engine_.reason);
  if (!engine_.warning.empty()) Log(LogLevel::kWarning, engine_.warning);
  RunOutcome outcome;
  outcome.engine = engine_.accelerator->name();
  outcome.engine_reason = engine_.reason;
  if (auto started = StartVcpus(); started) {
    Verdict verdict = supervisor_->Run();
    outcome.uptime_ms = static_cast<uint64_t>(supervisor_->uptime().count());
    outcome.code = verdict.code;
    outcome.reason = std::move(verdict.reason);
    outcome.guest_value = verdict.guest_value;
  } else {
    outcome.code = started.error().code;
    outcome.reason = std::move(started.error().message);
  }
  vcpus_.Stop();
  // What a guest that did well has printed may be all that the run was for.
  if (auto finished = consoles_->Finish(); !finished && outcome.code == ExitCode::kSuccess) {
    outcome.code = finished.error().code;
    outcome.reason = std::move(finished.error().message);
  }
  outcome.console_tail = supervisor_->LastConsoleLines();
  return outcome;
}

MachineDescription Machine::Describe() const {
  MachineDescription description;
  description.name = config_.name;
  description.cpus = config_.cpus;
  description.tsc_hz = clock_.tsc_hz();
  for (const MemoryMapEntry& entry : BuildMemoryMap(*memory_)) {
    using Kind = MachineDescription::Memory::Kind;
    const Kind kind = entry.type == MemoryType::kRam        ? Kind::kRam
                      : entry.type == MemoryType::kReserved ? Kind::kReserved
                                                            : Kind::kAcpi;
    description.memory.push_back({entry.start, entry.size, kind});
  }
  board_->Describe(description);
  description.devices.push_back({"local-apic", {}, {{0xFEE00000, kPageSize}}, {}});
  return description;
}

}  // namespace vmm
