// What a running machine tells of itself.
#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>
#include <utility>

#include "vmm/core/base/log.h"
#include "vmm/machine/machine.h"

namespace vmm {
namespace {

std::string KindOf(ConsoleSpec::Kind kind) {
  switch (kind) {
    case ConsoleSpec::Kind::kNull:
      return "null";
    case ConsoleSpec::Kind::kStdio:
      return "stdio";
    case ConsoleSpec::Kind::kPty:
      return "pty";
    case ConsoleSpec::Kind::kUnix:
      return "unix";
    case ConsoleSpec::Kind::kFile:
      return "file";
    case ConsoleSpec::Kind::kSocket:
      return "socket";
  }
  return "null";
}

std::string NameOf(NetMode mode) {
  switch (mode) {
    case NetMode::kUser:
      return "user";
    case NetMode::kTap:
      return "tap";
    case NetMode::kPasst:
      return "passt";
  }
  return "user";
}

// For a reader with another working directory.
std::string Absolute(const std::filesystem::path& path) {
  std::error_code ignored;
  return path.empty() ? "" : std::filesystem::absolute(path, ignored).lexically_normal().string();
}

}  // namespace

Result<void> Machine::MakeControl() {
  if (config_.control.empty()) return {};
  auto opened =
      MachineControl::Open(config_, *loop_, *supervisor_,
                           {[this] { return TellStatus(); }, [this] { return CollectStatistics(); },
                            [this] { return disks_->TellStatus(); }, [this] { return TellNets(); },
                            [this](const std::string& net, bool up) { return SetLink(net, up); }});
  if (opened) {
    control_ = std::move(*opened);
    return {};
  }
  if (config_.control_asked) return tl::unexpected(std::move(opened.error()));
  Log(LogLevel::kWarning, "vmm ctl won't reach this machine: " + opened.error().message);
  return {};
}

control::Status Machine::TellStatus() const {
  control::Status status;
  status.name = config_.name;
  status.paused = supervisor_->is_paused();
  status.engine = engine_.accelerator->name();
  status.engine_reason = engine_.reason;
  status.uptime_ms = static_cast<uint64_t>(supervisor_->uptime().count());
  status.cpu_ms = static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(vcpus_.CpuTime()).count());
  status.cpus = config_.cpus;
  status.memory = config_.memory;
  status.pid = getpid();
  status.config = Absolute(config_.file);
  status.suspend_file = Absolute(config_.suspend_file);
  for (const Consoles::Entry& console : consoles_->List()) {
    status.consoles.push_back({console.name, KindOf(console.kind), Absolute(console.where)});
  }
  return status;
}

std::vector<control::NetStatus> Machine::TellNets() const {
  std::vector<control::NetStatus> all;
  for (const NetSlot* slot : board_->nets()) {
    const virtio::VirtioNet& net = slot->net();
    all.push_back({net.name(), NameOf(config_.nets[all.size()].mode),
                   fmt::format("{:02x}", fmt::join(net.mac(), ":")), net.is_plugged(),
                   net.is_connected()});
  }
  return all;
}

Result<void> Machine::SetLink(const std::string& name, bool up) {
  std::vector<std::string> names;
  for (NetSlot* slot : board_->nets()) {
    names.push_back(slot->net().name());
    if (names.back() != name) continue;
    slot->net().SetLink(up);
    return {};
  }
  return Fail(ExitCode::kUnavailable,
              names.empty() ? "the machine has no network cards"
                            : fmt::format("there is no card of that name; fix: name one of {}",
                                          fmt::join(names, ", ")));
}

std::vector<control::EngineStatistics> Machine::CollectStatistics() const {
  std::vector<control::EngineStatistics> all;
  const auto collect = [&](const Accelerator& accelerator, bool running, const auto& vcpu_of) {
    control::EngineStatistics engine{std::string(accelerator.name()), running, {}};
    for (unsigned id = 0; id < config_.cpus; ++id) {
      engine.vcpus.push_back(vcpu_of(id).Statistics());
    }
    all.push_back(std::move(engine));
  };
  collect(*engine_.accelerator, true,
          [this](unsigned id) -> const Vcpu& { return vcpus_.vcpu(id); });
  if (other_.vm != nullptr) {
    collect(*other_.accelerator, false,
            [this](unsigned id) -> const Vcpu& { return *other_.vcpus[id]; });
  }
  return all;
}

}  // namespace vmm
