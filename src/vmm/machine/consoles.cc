#include "vmm/machine/consoles.h"

#include <fmt/format.h>
#include <unistd.h>

#include <string>
#include <utility>

namespace vmm {
namespace {

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
  }
  return {.kind = kind, .path = console.path.string(), .name = std::move(name)};
}

}  // namespace

CharBackend& Consoles::Outermost(Line& line) {
  return line.keys ? static_cast<CharBackend&>(*line.keys) : *line.host;
}

CharBackend& Consoles::debug_console() {
  return Outermost(debug_);
}

std::string Consoles::WhereIs(unsigned index) const {
  return (index < lines_.size() ? lines_[index] : debug_).host->Where();
}

// Without the tap.
Result<Consoles::Line> Consoles::Open(const ConsoleSpec& spec, std::string name, EventLoop& loop,
                                      const Hooks& hooks) {
  Line line;
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

Result<std::unique_ptr<Consoles>> Consoles::Create(const Config& config, EventLoop& loop,
                                                   Hooks hooks) {
  auto consoles = std::make_unique<Consoles>();
  for (unsigned i = 0; i < Config::kSerialPorts; ++i) {
    auto line = Open(config.serial[i], fmt::format("serial{}", i), loop, hooks);
    if (!line) return tl::unexpected(std::move(line.error()));
    line->tap = std::make_unique<ConsoleTap>(
        Outermost(*line),
        [i, on_output = hooks.on_output](std::span<const uint8_t> data) { on_output(i, data); });
    consoles->backends_[i] = line->tap.get();
    consoles->lines_[i] = std::move(*line);
  }
  auto debug = Open(config.debug, "debug", loop, hooks);
  if (!debug) return tl::unexpected(std::move(debug.error()));
  consoles->debug_ = std::move(*debug);
  consoles->debug_console().SetReceiver(&consoles->nobody_);
  return consoles;
}

Result<void> Consoles::Finish() {
  Result<void> all;
  const auto finish = [&all](Line& line, std::string_view name) {
    auto finished = line.host->Finish();
    if (!finished && all) all = tl::unexpected(std::move(finished.error()).WithContext(name));
  };
  for (unsigned i = 0; i < Config::kSerialPorts; ++i) finish(lines_[i], fmt::format("serial{}", i));
  finish(debug_, "debug");
  return all;
}

}  // namespace vmm
