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
    const size_t colon = std::min(text.find(':', start), text.size());
    parts.emplace_back(text.substr(start, colon - start));
    start = colon + 1;
  }
  if (parts.size() != 4 || (parts[0] != "tcp" && parts[0] != "udp")) return false;
  forward.is_udp = parts[0] == "udp";
  return inet_pton(AF_INET, parts[1].c_str(), &forward.address) == 1 &&
         ParseNumber(parts[2], forward.host_port) && ParseNumber(parts[3], forward.guest_port) &&
         forward.guest_port != 0;
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
    } else if (option == "--forward") {
      good = ParseForward(value, options.forwards.emplace_back());
    }
    if (!good) return {};
  }
  if (options.fd < 0) return {};
  return options;
}

std::string Describe(const Forward& forward) {
  char address[INET_ADDRSTRLEN] = "";
  inet_ntop(AF_INET, &forward.address, address, sizeof address);
  return std::string(forward.is_udp ? "udp " : "tcp ") + address + ":" +
         std::to_string(forward.host_port);
}

}  // namespace nat
