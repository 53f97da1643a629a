// The keys of one named port: the members of a table of `port`, and of --port NAME,KEY=VALUE.
#include <fmt/format.h>

#include <algorithm>

#include "vmm/config/item_reader.h"

namespace vmm {
namespace {

constexpr ConfigKey kPortKeys[] = {
    {.name = "port.name",
     .kind = ValueKind::kName,
     .default_text = "must be given",
     .example = "\"org.example.agent\"",
     .option = "",
     .help = "What the guest finds it by: /dev/virtio-ports/NAME in a Linux guest with udev.",
     .set = [](Config& config, const ConfigValue& value) { config.ports.back().name = value.text; },
     .aliases = "id|label|title|channel"},
    {.name = "port.to",
     .kind = ValueKind::kConsole,
     .default_text = "`unix:NAME.sock` beside vm.toml",
     .example = "\"unix:agent.sock\"",
     .option = "",
     .help = "Where it leads, as for a serial line.",
     .set = [](Config& config,
               const ConfigValue& value) { config.ports.back().to = value.console; },
     .aliases = "place|target|backend|chardev|path|socket|host"},
};

}  // namespace

std::span<const ConfigKey> PortKeys() {
  return kPortKeys;
}

const ItemKind kPortItems{
    .list = "port",
    .item = "a port",
    .plural = "ports",
    .plain = "a name",
    .example = R"(port = ["org.example.agent"])",
    .why_needed = "the guest finds it by that",
    .most = Config::kMaxPorts,
    .keys = &PortKeys,
    .add = [](Config& config) { config.ports.emplace_back(); },
    .drop = [](Config& config) { config.ports.pop_back(); },
    .count = [](const Config& config) { return config.ports.size(); },
    .complete =
        [](Config& config, std::span<const std::string_view> given) {
          PortSpec& port = config.ports.back();
          if (std::ranges::count(given, "to") != 0) return;
          port.to = {ConsoleSpec::Kind::kUnix, config.directory / (port.name + ".sock")};
        },
    .check = [](const ConfigKey& key, const ConfigValue& value) -> std::optional<ValueError> {
      if (key.name != "port.name" || value.text.size() <= PortSpec::kMaxName) return {};
      return ValueError{fmt::format("'{}' has {} bytes", key.name, value.text.size()),
                        fmt::format("the most is {}", PortSpec::kMaxName), "write a shorter one"};
    },
};

}  // namespace vmm
