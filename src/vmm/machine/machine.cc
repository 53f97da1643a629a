#include "vmm/machine/machine.h"

#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>

#include <algorithm>
#include <filesystem>
#include <string>

#include "vmm/acpi/acpi_tables.h"
#include "vmm/acpi/mp_table.h"
#include "vmm/boot/boot_cpu.h"
#include "vmm/boot/boot_sector.h"
#include "vmm/boot/load_kernel.h"
#include "vmm/boot/memory_map.h"
#include "vmm/core/base/log.h"
#include "vmm/machine/device_tree.h"
#include "vmm/machine/engine_sources.h"
#include "vmm/machine/statistics_table.h"

namespace vmm {
namespace {

std::string SignalName(int number) {
  const char* name = sigabbrev_np(number);
  return name == nullptr ? "signal " + std::to_string(number) : "SIG" + std::string(name);
}

ForceEntry EntryOf(KernelEntry entry) {
  switch (entry) {
    case KernelEntry::kAuto:
      return ForceEntry::kAuto;
    case KernelEntry::kUnpacked:
      return ForceEntry::kUnpacked;
    case KernelEntry::kLong:
      return ForceEntry::k64;
    case KernelEntry::kProtected:
      return ForceEntry::k32;
    case KernelEntry::kReal:
      return ForceEntry::k16;
  }
  return ForceEntry::kAuto;
}

// Puts what was made into its member.
template <class T>
Result<void> Take(Result<T> made, T& into) {
  if (!made) return tl::unexpected(std::move(made.error()));
  into = std::move(*made);
  return {};
}

TscFrequency TscOf(const SavedMachine* saved) {
  if (saved == nullptr) return FindTscFrequency();
  return {saved->clock().tsc_hz, TscFrequency::Source::kSaved};
}

// An error that has to do with the file of a suspended machine, with the way out.
template <class T>
Result<T> AboutSaved(Result<T> result, const Config& config) {
  if (result) return result;
  Error error = std::move(result.error());
  error.message = "can't resume from " + config.suspend_file.string() + ": " + error.message;
  if (error.code != ExitCode::kUnavailable)
    error.message += "; fix: vmm run --discard-state deletes it and starts afresh";
  return tl::unexpected(std::move(error));
}

// The suspended machine, or null where there is none.
Result<std::unique_ptr<SavedMachine>> FindSaved(const Config& config) {
  std::error_code ignored;
  const auto kind = std::filesystem::symlink_status(config.suspend_file, ignored).type();
  if (config.suspend_file.empty() || kind == std::filesystem::file_type::not_found) {
    return nullptr;
  }
  return AboutSaved(SavedMachine::Open(config.suspend_file), config);
}

}  // namespace

Machine::Machine(const Config& config, EngineSources& engines, std::unique_ptr<SavedMachine> saved)
    : config_(config),
      saved_(std::move(saved)),
      host_clock_(TscOf(saved_.get())),
      engines_(engines) {}

Result<std::unique_ptr<Machine>> Machine::Create(const Config& config) {
  EngineSources engines = DefaultEngines();
  return Create(config, engines);
}

Result<std::unique_ptr<Machine>> Machine::Create(const Config& config, EngineSources& engines) {
  auto saved = FindSaved(config);
  if (!saved) return tl::unexpected(std::move(saved.error()));
  std::unique_ptr<Machine> machine(new Machine(config, engines, std::move(*saved)));
  return machine->MakeHostSide()
      .and_then([&] { return machine->MakeBoard(); })
      .and_then([&] { return machine->MakeEngine(engines); })
      .and_then([&] {
        return machine->saved_ ? AboutSaved(machine->LoadSavedGuest(), config)
                               : machine->LoadGuest(/*memory_is_zero=*/true);
      })
      .map([&] { return std::move(machine); });
}

Machine::~Machine() {
  vcpus_.Clear();
  if (!board_) return;
  board_->PauseDevices();
  board_->PlugIn(nullptr);
}

Result<void> Machine::MakeHostSide() {
  if (auto made = Take(HostSignals::Create(), signals_); !made) return made;
  if (auto made = MakeMemory(); !made) return made;
  if (auto made = Take(EventLoop::Create(host_clock_), loop_); !made) return made;
  if (auto added = loop_->AddFd(signals_->fd(), EPOLLIN, [this](uint32_t) { OnSignals(); });
      !added) {
    return added;
  }
  if (config_.deterministic) {
    auto press = [this] { board_->PressPowerButton(); };
    if (auto made = Take(DeterministicRun::Create(config_, *memory_, press), deterministic_);
        !made) {
      return made;
    }
  }
  const Supervisor::Hooks hooks{[this] { return Reset(); }, [this] { PressPowerButton(); },
                                [this] { return Save(); },
                                [this](bool unasked) { return Move(unasked); }};
  if (auto made = Take(Supervisor::Create({config_, *loop_, clock(), vcpus_}, hooks), supervisor_);
      !made) {
    return made;
  }
  Supervisor& supervisor = *supervisor_;
  return Take(Consoles::Create(config_, *loop_,
                               {[&supervisor](unsigned console, std::span<const uint8_t> data) {
                                  supervisor.OnConsoleOutput(console, data);
                                },
                                [&supervisor] { supervisor.StopNow("Ctrl-A x"); },
                                [&supervisor] { supervisor.PressPowerButton(); },
                                [&supervisor] { supervisor.Suspend("Ctrl-A s"); }}),
              consoles_)
      .and_then([&] { return MakeControl(); });
}

Result<void> Machine::MakeMemory() {
  uint64_t rom_size = 0;
  if (!config_.firmware.empty()) {
    auto size = RomImageSize(config_.firmware);
    if (!size) return tl::unexpected(std::move(size.error()));
    rom_size = *size;
  }
  auto memory = GuestMemory::Create(config_.memory, rom_size);
  if (!memory) return tl::unexpected(std::move(memory.error()));
  memory_ = std::make_unique<GuestMemory>(std::move(*memory));
  return rom_size == 0 ? Result<void>() : LoadRomImage(config_.firmware, *memory_);
}

Result<void> Machine::MakeBoard() {
  Supervisor& supervisor = *supervisor_;
  Board::Events events{
      [&supervisor] { supervisor.OnPowerOff(); },
      [&supervisor](std::string_view source) { supervisor.OnResetRequest(source); },
      [&supervisor](uint32_t value) { supervisor.OnDebugExit(value); },
      [&supervisor] { supervisor.OnPvPanic(); }, [this](GuestPhys page) { FlushPage(page); }};
  const Consoles::Backends lines =
      deterministic_ ? deterministic_->Gate(consoles_->backends()) : consoles_->backends();
  if (auto opened = Take(Disks::Open(config_), disks_); !opened) return opened;
  if (auto opened = Take(Nets::Open(config_), nets_); !opened) return opened;
  if (auto opened = Take(Shares::Open(config_), shares_); !opened) return opened;
  auto made = Take(Board::Create({config_, *memory_, clock(), timers(), lines,
                                  consoles_->debug_console(), disks_->ForBoard(), nets_->ForBoard(),
                                  shares_->ForBoard(), consoles_->PortsForBoard()},
                                 std::move(events)),
                   board_);
  if (!made) return made;
  MachineDescription description = Describe();
  description.name.clear();  // a machine that was renamed is the same one
  if (auto tree = Take(BuildDeviceTree(description), description_); !tree) return tree;
  return saved_ ? AboutSaved(saved_->CheckDescription(description_), config_) : Result<void>();
}

Result<void> Machine::ChooseEngineFor(const CpuidOptions& options, EngineSources& engines) {
  // Only an engine that counts will do, and KVM need not be measured.
  const bool must_count = config_.deterministic && config_.accel == AccelChoice::kAuto;
  const AccelChoice accel = must_count ? AccelChoice::kInterpreter : config_.accel;
  auto chosen = Take(ChooseEngine(accel, options, engines), engine_);
  if (must_count) engine_.reason = "engine: interpreter: deterministic = true counts instructions";
  if (!chosen || !saved_) return chosen;
  auto adopted = saved_->AdoptCpuid(engine_.cpuid);
  if (!adopted && config_.accel == AccelChoice::kAuto && engine_.accelerator->name() == "kvm") {
    const std::string why = adopted.error().message;
    const auto other = engines.bt ? AccelChoice::kBt : AccelChoice::kInterpreter;
    if (chosen = Take(ChooseEngine(other, options, engines), engine_); !chosen) return chosen;
    engine_.reason += " for the suspended machine: with KVM " + why;
    adopted = saved_->AdoptCpuid(engine_.cpuid);
  }
  return AboutSaved(std::move(adopted), config_);
}

Result<void> Machine::MakeEngine(EngineSources& engines) {
  CpuidOptions options{.cpu_count = config_.cpus,
                       .tsc_hz = clock().tsc_hz(),
                       .mitigations = config_.mitigations,
                       .cpu = config_.cpu};
  if (deterministic_) {  // no two runs would read the same from them
    for (const char* feature : {"rdrand", "rdseed"}) options.cpu.remove.emplace_back(feature);
  }
  if (auto chosen = ChooseEngineFor(options, engines); !chosen) return chosen;
  std::vector<std::unique_ptr<Vcpu>> vcpus;
  if (auto made = Take(CreateVmOf(*engine_.accelerator, vcpus), vm_); !made) return made;
  board_->PlugIn(vm_.get());
  std::vector<Vcpu*> made;
  for (auto& vcpu : vcpus) {
    made.push_back(vcpu.get());
    vcpus_.Add(std::move(vcpu), [this](unsigned cpu, const RunResult& result) {
      if (debugger_ && debugger_->OnVcpuExit(cpu, result)) return;
      supervisor_->OnVcpuExit(cpu, result);
    });
  }
  if (deterministic_) deterministic_->Watch(std::move(made));
  return {};
}

MachineClock& Machine::clock() {
  if (deterministic_) return deterministic_->time();
  return host_clock_;
}

TimerService& Machine::timers() {
  if (deterministic_) return deterministic_->time();
  return *loop_;
}

void Machine::PressPowerButton() {
  if (deterministic_) {
    deterministic_->PressPowerButton();
  } else {
    board_->PressPowerButton();
  }
}

void Machine::OnSignals() {
  for (const int signal : signals_->Take()) {
    if (signal == SIGWINCH) {
      board_->OnWindowChange();
    } else if (signal == SIGUSR2) {
      supervisor_->Move(SignalName(signal));
    } else if (signal == SIGUSR1) {
      supervisor_->Suspend(SignalName(signal));
    } else if (signal == SIGQUIT) {
      supervisor_->StopNow(SignalName(signal));
    } else {
      supervisor_->RequestStop(SignalName(signal));
    }
  }
}

// Takes a page out of this process's page tables and with that out of the engine's; its content
// stays in the memfd.
void Machine::FlushPage(GuestPhys page) {
  uint8_t* host = memory_->Ram(page, kPageSize);
  if (host == nullptr) return;
  madvise(host, kPageSize, MADV_DONTNEED);
  vm_->OnHostWrite(page, kPageSize);
}

Result<void> Machine::LoadGuest(bool memory_is_zero) {
  states_.resize(config_.cpus);
  for (unsigned id = 0; id < config_.cpus; ++id) {
    ResetCpuState(states_[id], id, engine_.cpuid.signature());
  }
  if (!config_.firmware.empty()) {  // it makes tables and starts processors itself
    ShadowRom(*memory_);
    return {};
  }
  for (unsigned id = 1; id < config_.cpus; ++id) {
    ApplyFirmwareCpuState(states_[id], /*boot_cpu=*/false);
  }
  AcpiConfig acpi;
  acpi.cpu_count = config_.cpus;
  auto rsdp = BuildAcpiTables(acpi, *memory_);
  if (!rsdp) return tl::unexpected(std::move(rsdp.error()));
  WriteMpTable(acpi, *memory_);
  if (!config_.boot_sector.empty()) {
    return LoadBootSector(config_.boot_sector, *memory_, states_[0]);
  }

  BootRequest request;
  request.kernel = config_.kernel;
  request.initrd = config_.initrd;
  request.command_line = config_.append;
  for (const ModuleSpec& module : config_.modules) {
    request.modules.push_back({module.path, module.args});
  }
  request.acpi_rsdp = *rsdp;
  request.entry = EntryOf(config_.entry);
  request.memory_is_zero = memory_is_zero;
  request.seed_random = !config_.deterministic;
  auto entry = LoadKernel(request, *memory_, states_[0]);
  if (!entry) return tl::unexpected(std::move(entry.error()));
  return {};
}

Result<void> Machine::LoadSavedGuest() {
  states_.clear();
  for (unsigned id = 0; id < config_.cpus; ++id) {
    auto state = saved_->TakeCpu(id, engine_.cpuid);
    if (!state) return tl::unexpected(std::move(state.error()));
    states_.push_back(*state);
  }
  return saved_->LoadMemory(*memory_);
}

Result<void> Machine::Restore() {
  clock().Set(Nanoseconds(saved_->clock().now_ns));
  auto loaded = board_->LoadInterruptControllers(saved_->sections())
                    .and_then([&] { return LoadVcpus(); })
                    .and_then([&] { return board_->LoadDevices(saved_->sections()); })
                    .and_then([&] { return consoles_->LoadInput(saved_->sections()); })
                    .and_then([&] { return saved_->sections().CheckAllTaken(); });
  if (!loaded) return AboutSaved(std::move(loaded), config_);
  // From the next instruction on the file is of the past: a run from it would go back in time.
  std::error_code error;
  if (!std::filesystem::remove(config_.suspend_file, error)) {
    return Fail(ExitCode::kIoError, "can't delete " + config_.suspend_file.string() +
                                        ", which the machine goes on from: " + error.message());
  }
  saved_.reset();  // with its lock
  Log(LogLevel::kInfo, "resumed from " + config_.suspend_file.string());
  return {};
}

// Devices first: what is due in them goes on to the interrupt controllers, and from there to the
// processors.
Result<void> Machine::Save() {
  if (const std::string why = disks_->WhyNotToSuspend(); !why.empty()) {
    return Fail(ExitCode::kUnavailable, why);
  }
  if (debugger_) debugger_->Withdraw();
  board_->PauseDevices();
  auto saved = WriteAll();
  if (!saved) {
    board_->ResumeDevices();
    if (debugger_) debugger_->Renew();
  }
  return saved;
}

Result<void> Machine::WriteAll() {
  CatchUpWithGuest();
  Sections sections;
  board_->SaveState(sections);
  consoles_->SaveInput(sections, deterministic_ ? deterministic_->OnTheWay() : Consoles::Ahead{});
  MachineParts parts;
  parts.description = description_;
  parts.cpuid = engine_.cpuid.entries();
  parts.clock = {clock().Now().count(), clock().tsc_hz()};
  if (auto saved = SaveVcpus(parts.cpus); !saved) return saved;
  PutParts(parts, sections);
  return WriteMachine(config_.suspend_file, sections, *memory_);
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
  if (debugger_) debugger_->BeforeReset();
  board_->Reset();
  if (auto loaded = LoadGuest(/*memory_is_zero=*/false); !loaded) return loaded;
  for (const RamRegion& region : memory_->regions()) vm_->OnHostWrite(region.start, region.size);
  auto loaded = LoadVcpus();
  if (loaded && debugger_) debugger_->AfterReset();
  return loaded;
}

Result<void> Machine::StartVcpus() {
  return vcpus_.Start()
      .and_then([&] { return saved_ ? Restore() : LoadVcpus(); })
      .map([&] { vm_->SetGuestTime(clock().Now()); })
      .and_then([&] { return MakeDebugger(); });
}

Result<void> Machine::MakeDebugger() {
  if (config_.gdb.kind == GdbSpec::Kind::kNone) return {};
  const Debugger::Parts parts{
      config_, *loop_, *supervisor_, vcpus_, *memory_, vm_, engine_.cpuid.Has("avx")};
  if (auto made = Take(Debugger::Create(parts), debugger_); !made) return made;
  debugger_->OnStart();
  return {};
}

RunOutcome Machine::Run() {
  Log(LogLevel::kInfo, engine_.reason);
  if (!engine_.warning.empty()) Log(LogLevel::kWarning, engine_.warning);
  RunOutcome outcome;
  WatchSlowKvm();
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
  outcome.engine = engine_.accelerator->name();
  if (config_.statistics) {
    for (const auto& of : CollectStatistics()) {
      outcome.statistics += StatisticsTable(of.engine, of.vcpus);
    }
  }
  // A suspended guest keeps what is not taken.
  if (outcome.code != ExitCode::kSuspended) board_->HandOut();
  // What a guest that did well has printed may be all that the run was for.
  const Result<void> finished = consoles_->Finish().and_then(
      [&] { return deterministic_ ? deterministic_->Finish() : Result<void>(); });
  if (!finished && outcome.code == ExitCode::kSuccess) {
    outcome.code = finished.error().code;
    outcome.reason = finished.error().message;
  }
  if (debugger_) debugger_->OnEnd(outcome.code);
  outcome.console_tail = supervisor_->LastConsoleLines();
  if (control_) control_->Finish(outcome);
  return outcome;
}

MachineDescription Machine::Describe() const {
  MachineDescription description;
  description.name = config_.name;
  description.cpus = config_.cpus;
  description.tsc_hz = clock().tsc_hz();
  description.cpu_model = FormatCpuChoice(config_.cpu);
  if (engine_.accelerator) {
    for (const std::string_view name : engine_.cpuid.FeatureNames())
      description.cpu_features.emplace_back(name);
  }
  for (const MemoryMapEntry& entry : BuildMemoryMap(*memory_)) {
    using Kind = MachineDescription::Memory::Kind;
    const Kind kind = entry.type == MemoryType::kRam        ? Kind::kRam
                      : entry.type == MemoryType::kReserved ? Kind::kReserved
                                                            : Kind::kAcpi;
    description.memory.push_back({entry.start, entry.size, kind});
  }
  board_->Describe(description);
  if (const RamRegion* rom = memory_->rom()) {
    description.devices.push_back({"rom", {}, {{rom->start.value, rom->size}}, {}});
  }
  description.devices.push_back({"local-apic", {}, {{0xFEE00000, kPageSize}}, {}});
  return description;
}

}  // namespace vmm
