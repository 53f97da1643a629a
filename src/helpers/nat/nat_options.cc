#include "helpers/nat/nat_options.h"

#include <arpa/inet.h>

#include <charconv>

namespace nat {
namespace {

template <class T>
bool ParseNumber(std::string_view text, T& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size();
}

bool ParseForward(std::string_view text, Forward& forward) {
  std::vector<std::string> parts;
  for (size_t start = 0; start <= text.size();) {
    const size_t from = text.substr(start, 1) == "[" ? text.find(']', start) : start;
    const size_t colon = std::min(text.find(':', from), text.size());
    parts.emplace_back(text.substr(start, colon - start));
    start = colon + 1;
  }
  if (parts.size() != 4 || (parts[0] != "tcp" && parts[0] != "udp")) return false;
  forward.is_udp = parts[0] == "udp";
  forward.is_ipv6 = parts[1].starts_with('[') && parts[1].ends_with(']');
  const bool is_address = forward.is_ipv6
                              ? inet_pton(AF_INET6, parts[1].substr(1, parts[1].size() - 2).c_str(),
                                          &forward.address6) == 1
                              : inet_pton(AF_INET, parts[1].c_str(), &forward.address) == 1;
  return is_address && ParseNumber(parts[2], forward.host_port) &&
         ParseNumber(parts[3], forward.guest_port) && forward.guest_port != 0;
}

}  // namespace

std::optional<Options> ParseOptions(const std::vector<std::string>& words) {
  Options options;
  for (size_t i = 0; i < words.size(); ++i) {
    if (words[i] == "--restrict") {
      options.restricted = true;
      continue;
    }
    if (i + 1 == words.size()) return {};
    const std::string& option = words[i];
    const std::string& value = words[++i];
    bool good = false;
    if (option == "--fd") {
      good = ParseNumber(value, options.fd);
    } else if (option == "--mtu") {
      good = ParseNumber(value, options.mtu);
    } else if (option == "--hostname") {
      options.hostname = value;
      good = true;
    } else if (option == "--guest6") {
      good = inet_pton(AF_INET6, value.c_str(), &options.guest6) == 1;
    } else if (option == "--forward") {
      good = ParseForward(value, options.forwards.emplace_back());
    }
    if (!good) return {};
  }
  if (options.fd < 0) return {};
  return options;
}

std::string Describe(const Forward& forward) {
  char text[INET6_ADDRSTRLEN] = "";
  if (forward.is_ipv6) {
    inet_ntop(AF_INET6, &forward.address6, text, sizeof text);
  } else {
    inet_ntop(AF_INET, &forward.address, text, sizeof text);
  }
  const std::string address = forward.is_ipv6 ? "[" + std::string(text) + "]" : text;
  return (forward.is_udp ? "udp " : "tcp ") + address + ":" + std::to_string(forward.host_port);
}

}  // namespace nat
