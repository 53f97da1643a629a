// The keys of one network card: the members of a table of `net`, and of --net MODE,KEY=VALUE.
#include <algorithm>

#include "vmm/config/item_reader.h"

namespace vmm {
namespace {

constexpr uint64_t kLeastMtu = 576, kMostMtu = 65520;
constexpr uint64_t kFirstFd = 3, kLastFd = 1'000'000;

constexpr ConfigKey kNetKeys[] = {
    {.name = "net.mode",
     .kind = ValueKind::kChoice,
     .default_text = "\"user\"",
     .example = "\"user\"",
     .option = "",
     .help =
         "Where the wire leads: \"user\", to a network of its own behind the host's, which needs "
         "no rights; \"tap\", to a tap device; \"passt\", to a program at a Unix socket.",
     .set = [](Config& config,
               const ConfigValue& value) { config.nets.back().mode = NetMode(value.number); },
     .choices = "user|tap|passt",
     .later = "bridge|link",
     .aliases = "type|kind|backend|network"},
    {.name = "net.mac",
     .kind = ValueKind::kMac,
     .default_text = "made from the place of vm.toml",
     .example = "\"52:54:00:12:34:56\"",
     .option = "",
     .help =
         "The card's address. Without it, it stays the same as long as vm.toml stays where it is.",
     .set = [](Config& config, const ConfigValue& value) { config.nets.back().mac = value.mac; },
     .aliases = "hwaddr|address|mac_address|ether"},
    {.name = "net.forward",
     .kind = ValueKind::kForward,
     .default_text = "[]",
     .example = "[\"tcp:2222:22\"]",
     .option = "",
     .help =
         "With \"user\": ports of the host that lead to ports of the guest, "
         "\"tcp:PORT:PORT\" (on 127.0.0.1) or \"udp:ADDRESS:PORT:PORT\"; ADDRESS may be [IPv6].",
     .set = [](Config& config,
               const ConfigValue& value) { config.nets.back().forwards.push_back(value.forward); },
     .aliases = "hostfwd|forwards|ports|port|publish|expose|portforward"},
    {.name = "net.restrict",
     .kind = ValueKind::kBoolean,
     .default_text = "false",
     .example = "true",
     .option = "",
     .help =
         "With \"user\": may the guest only be reached by its forwards, and reach nobody itself?",
     .set = [](Config& config,
               const ConfigValue& value) { config.nets.back().restricted = value.number != 0; },
     .aliases = "restricted|isolated|isolate|offline"},
    {.name = "net.tap",
     .kind = ValueKind::kText,
     .default_text = "none",
     .example = "\"tap0\"",
     .option = "",
     .help = "With \"tap\", which it implies: the name of the device.",
     .set = [](Config& config, const ConfigValue& value) { config.nets.back().tap = value.text; },
     .aliases = "ifname|device|dev|interface|name"},
    {.name = "net.fd",
     .kind = ValueKind::kInteger,
     .default_text = "none",
     .example = "3",
     .option = "",
     .help = "With \"tap\", which it implies, instead of a name: the tap's descriptor, which vmm "
             "inherits.",
     .set =
         [](Config& config, const ConfigValue& value) {
           config.nets.back().fd = static_cast<int>(value.number);
         },
     .aliases = "descriptor|handle",
     .min = kFirstFd,
     .max = kLastFd},
    {.name = "net.path",
     .kind = ValueKind::kFile,
     .default_text = "none",
     .example = "\"/tmp/passt_1.socket\"",
     .option = "",
     .help = "With \"passt\", which it implies: the socket that the program listens on.",
     .set = [](Config& config, const ConfigValue& value) { config.nets.back().path = value.path; },
     .aliases = "socket|unix|sock|file"},
    {.name = "net.mtu",
     .kind = ValueKind::kInteger,
     .default_text = "the guest's own, mostly 1500",
     .example = "9000",
     .option = "",
     .help = "The longest IP packet that the guest is told to send, in bytes.",
     .set = [](Config& config,
               const ConfigValue& value) { config.nets.back().mtu = unsigned(value.number); },
     .aliases = "host_mtu",
     .min = kLeastMtu,
     .max = kMostMtu},
    {.name = "net.pcap",
     .kind = ValueKind::kFile,
     .default_text = "none",
     .example = "\"net0.pcap\"",
     .option = "",
     .help = "A file, made anew, in which every frame is recorded for tcpdump or Wireshark.",
     .set = [](Config& config, const ConfigValue& value) { config.nets.back().pcap = value.path; },
     .aliases = "dump|capture|trace|record"},
};

}  // namespace

std::span<const ConfigKey> NetKeys() {
  return kNetKeys;
}

const ItemKind kNetItems{
    .list = "net",
    .item = "a network card",
    .plural = "network cards",
    .plain = "a mode",
    .example = R"(net = ["user"])",
    .why_needed = {},
    .most = Config::kMaxNets,
    .keys = &NetKeys,
    .add = [](Config& config) { config.nets.emplace_back(); },
    .drop = [](Config& config) { config.nets.pop_back(); },
    .count = [](const Config& config) { return config.nets.size(); },
    .complete =
        [](Config& config, std::span<const std::string_view> given) {
          const auto has = [&](std::string_view word) {
            return std::ranges::count(given, word) != 0;
          };
          if (has("mode")) return;
          if (has("tap") || has("fd")) config.nets.back().mode = NetMode::kTap;
          if (has("path")) config.nets.back().mode = NetMode::kPasst;
        },
    .check = [](const ConfigKey&, const ConfigValue&) -> std::optional<ValueError> { return {}; },
};

}  // namespace vmm
