// What vmm asks of its NAT helper, as the words of its command line.
#pragma once

#include <netinet/in.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace nat {

// Connections to a port of the host go to a port of the guest.
struct Forward {
  bool is_udp = false;
  bool is_ipv6 = false;
  in_addr address{};
  in6_addr address6{};     // instead, where is_ipv6
  uint16_t host_port = 0;  // 0: one that the host chooses
  uint16_t guest_port = 0;
};

struct Options {
  int fd = -1;  // a stream socket: frames, each behind its length
  bool restricted = false;
  uint16_t mtu = 1500;
  std::string hostname = "vmm";  // that DHCP gives the guest
  std::vector<Forward> forwards;
  in6_addr guest6{};  // that the guest makes of the router's prefix and its card's address
};

// --fd N [--restrict] [--mtu N] [--hostname NAME] [--guest6 ADDRESS]
// [--forward tcp|udp:ADDRESS:PORT:PORT]..., with an IPv6 address in brackets.
// Nothing: they are wrong.
std::optional<Options> ParseOptions(const std::vector<std::string>& words);

// "tcp 127.0.0.1:2222", "tcp [::1]:2222"
std::string Describe(const Forward& forward);

}  // namespace nat
