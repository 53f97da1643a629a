#include "vmm/machine/consoles.h"

#include <fmt/format.h>
#include <unistd.h>

#include <string>
#include <utility>

namespace vmm {
namespace {

constexpr uint32_t kInputVersion = 1;

// A section's. Lines are counted in their order.
std::string InputName(unsigned line) {
  return fmt::format("input{}", line);
}

CharBackendSpec SpecOf(const ConsoleSpec& console, std::string name) {
  using From = ConsoleSpec::Kind;
  using To = CharBackendSpec::Kind;
  To kind = To::kNull;
  switch (console.kind) {
    case From::kNull:
      kind = To::kNull;
      break;
    case From::kStdio:
      kind = To::kStdio;
      break;
    case From::kPty:
      kind = To::kPty;
      break;
    case From::kUnix:
      kind = To::kUnix;
      break;
    case From::kFile:
      kind = To::kFile;
      break;
    case From::kSocket:
      kind = To::kSocket;
      break;
  }
  return {.kind = kind, .path = console.path.string(), .name = std::move(name), .fd = console.fd};
}

}  // namespace

CharBackend& Consoles::Outermost(Line& line) {
  return line.keys ? static_cast<CharBackend&>(*line.keys) : *line.host;
}

CharBackend& Consoles::debug_console() {
  return Outermost(debug_);
}

template <class Visit>
void Consoles::ForEachLine(auto& consoles, const Visit& visit) {
  for (auto& line : consoles.lines_) visit(line);
  visit(consoles.debug_);
  for (auto& line : consoles.hvc_) visit(line);
  for (auto& line : consoles.ports_) visit(line);
}

std::vector<Consoles::Entry> Consoles::List() const {
  std::vector<Entry> list;
  ForEachLine(*this, [&list](const Line& line) {
    list.push_back({line.name, line.kind, line.host->Where()});
  });
  return list;
}

std::vector<BoardPort> Consoles::PortsForBoard() {
  std::vector<BoardPort> ports;
  for (Line& line : hvc_) ports.push_back({{}, true, line.tap.get()});
  for (Line& line : ports_) ports.push_back({line.name, false, &Outermost(line)});
  return ports;
}

// Without the tap.
Result<Consoles::Line> Consoles::Open(const ConsoleSpec& spec, std::string name, EventLoop& loop,
                                      const Hooks& hooks) {
  Line line;
  line.name = name;
  line.kind = spec.kind;
  auto host = OpenCharBackend(SpecOf(spec, name), loop);
  if (!host) return tl::unexpected(std::move(host.error()).WithContext(name));
  line.host = std::move(*host);
  if (spec.kind == ConsoleSpec::Kind::kStdio && isatty(STDIN_FILENO)) {
    line.keys = std::make_unique<EscapeKeys>(
        *line.host, [&loop](std::function<void()> work) { loop.Post(std::move(work)); },
        EscapeKeys::Handlers{hooks.on_stop, hooks.on_power_button, hooks.on_suspend});
  }
  return line;
}

Result<Consoles::Line> Consoles::OpenConsole(const ConsoleSpec& spec, std::string name,
                                             unsigned number, const std::string& log,
                                             EventLoop& loop, const Hooks& hooks) {
  auto line = Open(spec, name, loop, hooks);
  if (!line) return line;
  if (!log.empty()) {
    auto opened = OpenCharBackend({.kind = CharBackendSpec::Kind::kFile,
                                   .path = log,
                                   .limit = Config::kLogLimit,
                                   .name = "logs"},
                                  loop);
    if (!opened) return tl::unexpected(std::move(opened.error()).WithContext("logs"));
    line->log = std::move(*opened);
  }
  line->tap = std::make_unique<ConsoleTap>(
      Outermost(*line),
      [number, on_output = hooks.on_output, log = line->log.get()](std::span<const uint8_t> data) {
        on_output(number, data);
        if (log != nullptr) log->Write(data);
      });
  return line;
}

Result<std::unique_ptr<Consoles>> Consoles::Create(const Config& config, EventLoop& loop,
                                                   Hooks hooks) {
  auto consoles = std::make_unique<Consoles>();
  for (unsigned i = 0; i < Config::kSerialPorts; ++i) {
    const bool is_logged = i == 0 && !config.logs.empty();
    auto line = OpenConsole(config.serial[i], fmt::format("serial{}", i), i,
                            is_logged ? (config.logs / "console.log").string() : "", loop, hooks);
    if (!line) return tl::unexpected(std::move(line.error()));
    consoles->backends_[i] = line->tap.get();
    consoles->lines_[i] = std::move(*line);
  }
  auto debug = Open(config.debug, "debug", loop, hooks);
  if (!debug) return tl::unexpected(std::move(debug.error()));
  consoles->debug_ = std::move(*debug);
  consoles->debug_console().SetReceiver(&consoles->nobody_);
  // hvc1 is the second of two, also where the first leads nowhere.
  unsigned hvcs = 0;
  for (unsigned i = 0; i < Config::kVirtioConsoles; ++i) {
    if (config.hvc[i].kind != ConsoleSpec::Kind::kNull) hvcs = i + 1;
  }
  for (unsigned i = 0; i < hvcs; ++i) {
    auto line = OpenConsole(config.hvc[i], fmt::format("hvc{}", i), Config::kSerialPorts + i, "",
                            loop, hooks);
    if (!line) return tl::unexpected(std::move(line.error()));
    consoles->hvc_.push_back(std::move(*line));
  }
  for (const PortSpec& port : config.ports) {
    auto line = Open(port.to, port.name, loop, hooks);
    if (!line) return tl::unexpected(std::move(line.error()));
    consoles->ports_.push_back(std::move(*line));
  }
  return consoles;
}

void Consoles::SaveInput(Sections& out, const Ahead& ahead) {
  unsigned number = 0;
  ForEachLine(*this, [&](Line& line) {
    auto waiting = Outermost(line).WaitingInput();
    if (number < ahead.size()) {
      waiting.insert(waiting.begin(), ahead[number].begin(), ahead[number].end());
    }
    const std::string name = InputName(number++);
    if (!waiting.empty()) out.PutBytes(name, kInputVersion, std::move(waiting));
  });
}

Result<void> Consoles::LoadInput(Sections& in) {
  Result<void> all;
  unsigned number = 0;
  ForEachLine(*this, [&](Line& line) {
    const std::string name = InputName(number++);
    if (!all || !in.Has(name)) return;
    const auto waiting = in.TakeBytes(name, kInputVersion);
    if (!waiting) return void(all = tl::unexpected(waiting.error()));
    Outermost(line).ReturnInput(*waiting);
  });
  return all;
}

Result<void> Consoles::Finish() {
  Result<void> all;
  ForEachLine(*this, [&all](Line& line) {
    if (line.log) (void)line.log->Finish();  // what it lost was said
    auto finished = line.host->Finish();
    if (!finished && all) all = tl::unexpected(std::move(finished.error()).WithContext(line.name));
  });
  return all;
}

}  // namespace vmm
