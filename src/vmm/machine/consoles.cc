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

Result<std::unique_ptr<Consoles>> Consoles::Create(const Config& config, EventLoop& loop,
                                                   Hooks hooks) {
  auto consoles = std::make_unique<Consoles>();
  for (unsigned i = 0; i < Config::kSerialPorts; ++i) {
    Line& line = consoles->lines_[i];
    const std::string name = fmt::format("serial{}", i);
    auto host = OpenCharBackend(SpecOf(config.serial[i], name), loop);
    if (!host) return tl::unexpected(std::move(host.error()).WithContext(name));
    line.host = std::move(*host);
    CharBackend* outermost = line.host.get();
    if (config.serial[i].kind == ConsoleSpec::Kind::kStdio && isatty(STDIN_FILENO)) {
      line.keys = std::make_unique<EscapeKeys>(
          *outermost, [&loop](std::function<void()> work) { loop.Post(std::move(work)); },
          EscapeKeys::Handlers{hooks.on_stop, hooks.on_power_button});
      outermost = line.keys.get();
    }
    line.tap = std::make_unique<ConsoleTap>(
        *outermost,
        [i, on_output = hooks.on_output](std::span<const uint8_t> data) { on_output(i, data); });
    consoles->backends_[i] = line.tap.get();
  }
  return consoles;
}

Result<void> Consoles::Finish() {
  Result<void> all;
  for (unsigned i = 0; i < Config::kSerialPorts; ++i) {
    auto finished = lines_[i].host->Finish();
    if (finished || !all) continue;
    all = tl::unexpected(std::move(finished.error()).WithContext(fmt::format("serial{}", i)));
  }
  return all;
}

}  // namespace vmm
