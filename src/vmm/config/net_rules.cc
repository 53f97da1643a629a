#include "vmm/config/net_rules.h"

#include <fmt/format.h>

namespace vmm {
namespace {

std::string_view NameOf(NetMode mode) {
  constexpr std::string_view kNames[] = {"user", "tap", "passt"};
  return kNames[static_cast<size_t>(mode)];
}

// A key that only one mode has.
void CheckBelongs(bool given, std::string_view key, NetMode to, const NetSpec& net,
                  const Place& place, ConfigProblems& problems) {
  if (!given || net.mode == to) return;
  problems.Add(place, {fmt::format("{} does not go with mode = \"{}\"", key, NameOf(net.mode)),
                       fmt::format("it belongs to mode = \"{}\"", NameOf(to)),
                       fmt::format("remove {}, or write mode = \"{}\"", key, NameOf(to))});
}

void CheckNet(const NetSpec& net, const Place& place, ConfigProblems& problems) {
  CheckBelongs(!net.forwards.empty(), "forward", NetMode::kUser, net, place, problems);
  CheckBelongs(net.restricted, "restrict", NetMode::kUser, net, place, problems);
  CheckBelongs(!net.tap.empty(), "tap", NetMode::kTap, net, place, problems);
  CheckBelongs(net.fd.has_value(), "fd", NetMode::kTap, net, place, problems);
  CheckBelongs(!net.path.empty(), "path", NetMode::kPasst, net, place, problems);
  if (net.mode == NetMode::kTap && net.tap.empty() == !net.fd) {
    problems.Add(place, {net.fd ? "a network card has tap and fd" : "a tap has no name",
                         "there is one wire", "write tap = \"tap0\", or fd = 3"});
  }
  if (net.mode == NetMode::kPasst && net.path.empty()) {
    problems.Add(place, {"mode = \"passt\" has no path", "it is the socket that passt listens on",
                         "write path = \"/tmp/passt_1.socket\""});
  }
}

// What two cards can't share.
void CheckPair(const NetSpec& one, const NetSpec& other, size_t i, size_t j, const Place& place,
               ConfigProblems& problems) {
  const auto add = [&](std::string_view what, std::string_view why, std::string_view fix) {
    problems.Add(place, {fmt::format("net{} and net{} have the same {}", j, i, what),
                         std::string(why), std::string(fix)});
  };
  if (one.mac && one.mac == other.mac) add("mac", "an address is one card's", "change one of them");
  if (!one.tap.empty() && one.tap == other.tap) add("tap", "it has one end", "name another tap");
  if (one.fd && one.fd == other.fd) add("fd", "it is one end of one wire", "name another");
  if (!one.pcap.empty() && one.pcap.lexically_normal() == other.pcap.lexically_normal()) {
    add("pcap", "their frames would mix", "name another file");
  }
  for (const ForwardSpec& a : one.forwards) {
    for (const ForwardSpec& b : other.forwards) {
      if (a.host_port == 0 || a.is_udp != b.is_udp || a.address != b.address ||
          a.host_port != b.host_port) {
        continue;
      }
      add("port in forward", "only one can listen on it", "name another port of the host");
    }
  }
}

}  // namespace

void CheckNets(const Config& config, const ConfigReader& reader, ConfigProblems& problems) {
  if (config.nets.empty()) return;
  if (config.deterministic) {
    problems.Add(reader.PlaceOf("net"),
                 {"net does not go with deterministic = true",
                  "when a frame comes is up to the host", "remove one of the two"});
  }
  for (size_t i = 0; i < config.nets.size(); ++i) {
    const Place& place = reader.NetPlaces()[i];
    CheckNet(config.nets[i], place, problems);
    for (size_t j = 0; j < i; ++j) {
      CheckPair(config.nets[i], config.nets[j], i, j, place, problems);
    }
  }
}

}  // namespace vmm
