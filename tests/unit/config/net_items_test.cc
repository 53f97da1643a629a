// Network cards as vm.toml and the command line write them.
#include <catch2/catch.hpp>

#include "vmm/config/load_config.h"

namespace vmm {
namespace {

Result<Config> Parse(const std::string& text, std::vector<Override> overrides = {}) {
  return ParseConfig("kernel = \"k\"\n" + text, "/machine/vm.toml", overrides, false);
}

std::string ErrorOf(const std::string& text, std::vector<Override> overrides = {}) {
  const auto config = Parse(text, std::move(overrides));
  return config ? "" : config.error().message;
}

}  // namespace

TEST_CASE("A card is a mode, or a table with all its keys", "[config]") {
  const auto config = Parse(
      "net = [\"user\", { mode = \"user\", mac = \"52:54:00:aB:cd:Ef\", restrict = true, "
      "forward = [\"tcp:2222:22\", \"udp:0.0.0.0:0:53\", \"tcp:[fe80::1]:80:81\"], mtu = 9000, "
      "pcap = \"n.pcap\" }]");
  REQUIRE(config);
  REQUIRE(config->nets.size() == 2);
  CHECK(config->nets[0] == NetSpec{});
  NetSpec full;
  full.mac = NetSpec::Mac{0x52, 0x54, 0, 0xAB, 0xCD, 0xEF};
  full.restricted = true;
  full.forwards = {{.host_port = 2222, .guest_port = 22},
                   {.is_udp = true, .address = "0.0.0.0", .host_port = 0, .guest_port = 53},
                   {.address = "fe80::1", .host_port = 80, .guest_port = 81}};
  CHECK(full.forwards[2].is_ipv6());
  CHECK_FALSE(full.forwards[1].is_ipv6());
  full.mtu = 9000;
  full.pcap = "/machine/n.pcap";
  CHECK(config->nets[1] == full);
}

TEST_CASE("What only one mode has implies it", "[config]") {
  const auto config = Parse(
      "[[net]]\ntap = \"tap0\"\n[[net]]\nfd = 5\n[[net]]\npath = \"p.sock\"\n"
      "[[net]]\nforward = \"tcp:80:80\"\n");
  REQUIRE(config);
  REQUIRE(config->nets.size() == 4);
  CHECK(config->nets[0].mode == NetMode::kTap);
  CHECK(config->nets[1].mode == NetMode::kTap);
  CHECK(config->nets[1].fd == 5);
  CHECK(config->nets[2].mode == NetMode::kPasst);
  CHECK(config->nets[2].path == "/machine/p.sock");
  CHECK(config->nets[3].forwards.size() == 1);
}

TEST_CASE("--net takes the place of the file's cards", "[config]") {
  const std::vector<Override> options = {
      {"net", "user,forward=tcp:2222:22,forward=udp:5353:53", "--net"},
      {"net", "tap,tap=t1", "--net"}};
  const auto config = Parse("net = [\"user\", \"user\", \"user\"]", options);
  REQUIRE(config);
  REQUIRE(config->nets.size() == 2);
  CHECK(config->nets[0].forwards.size() == 2);
  CHECK(config->nets[1].tap == "t1");
  CHECK(Parse("net = [\"user\"]", {{"net", "", "--net"}})->nets.empty());
}

TEST_CASE("Each fault of a card is told with its place and remedy", "[config]") {
  const auto at = [](const std::string& text) { return "/machine/vm.toml:2:" + text; };
  CHECK(ErrorOf("net = \"user\"") ==
        at("7: 'net' is a string (it must be a list); fix: write net = [\"user\"]"));
  CHECK(ErrorOf("[net]\nmode = \"user\"") ==
        at("1: 'net' is a table (it must be a list); fix: write [[net]] instead of [net]"));
  CHECK(ErrorOf("net = [{ hostfwd = \"tcp:1:1\" }]") ==
        at("10: unknown key 'hostfwd' of a network card (it would be ignored); fix: write "
           "'forward'"));
  CHECK(ErrorOf("net = [\"bridge\"]").find("not available in this version") != std::string::npos);
  CHECK(ErrorOf("net = [{ mac = \"01:00:5e:00:00:01\" }]").find("write \"52:00:5e:00:00:01\"") !=
        std::string::npos);
  for (const std::string mac : {"", "52:54:00:12:34", "52-54-00-12-34-56", "52:54:00:12:34:5g",
                                "52:54:00:12:34:56:", "00:00:00:00:00:00"}) {
    CHECK_FALSE(ErrorOf("net = [{ mac = \"" + mac + "\" }]").empty());
  }
  for (const std::string forward :
       {"", "tcp", "tcp:1", "tcp:1:0", "tcp:65536:1", "tcp:1:65536", "sctp:1:1",
        "tcp:localhost:1:1", "tcp:::1:1:1", "tcp:1x:1", "tcp: 1:1", "tcp:1.2.3.4:1:1:1",
        "tcp:[::1:1:1", "tcp:[::1]x:1:1", "tcp:[1.2.3.4]:1:1", "tcp:[]:1:1", "tcp:[::1]:1"}) {
    CHECK(ErrorOf("net = [{ forward = \"" + forward + "\" }]").find("is no forward") !=
          std::string::npos);
  }
  CHECK_FALSE(ErrorOf("net = [{ mtu = 500 }]").empty());
  CHECK_FALSE(ErrorOf("net = [{ fd = 2 }]").empty());
}

TEST_CASE("Keys that do not go together are told", "[config]") {
  const auto has = [](const std::string& text, const std::string& part) {
    INFO(ErrorOf(text));
    return ErrorOf(text).find(part) != std::string::npos;
  };
  CHECK(has("net = [{ tap = \"t\", forward = \"tcp:1:1\" }]", "forward does not go with"));
  CHECK(has("net = [{ tap = \"t\", restrict = true }]", "restrict does not go with"));
  CHECK(has("net = [{ mode = \"user\", tap = \"t\" }]", "tap does not go with mode = \"user\""));
  CHECK(has("net = [{ mode = \"user\", fd = 3 }]", "fd does not go with"));
  CHECK(has("net = [{ mode = \"tap\", path = \"p\", fd = 3 }]", "path does not go with"));
  CHECK(has("net = [{ tap = \"t\", fd = 3 }]", "tap and fd"));
  CHECK(has("net = [\"tap\"]", "has no name"));
  CHECK(has("net = [\"passt\"]", "has no path"));
  CHECK(has("deterministic = true\nnet = [\"user\"]", "deterministic"));
  CHECK(has("net = [{ tap = \"t\" }, { tap = \"t\" }]", "net0 and net1 have the same tap"));
  CHECK(has("net = [{ pcap = \"t\" }, { pcap = \"./t\" }]", "same pcap"));
  CHECK(has("net = [{ forward = \"tcp:9:1\" }, { forward = \"tcp:9:2\" }]", "same port"));
  CHECK(ErrorOf("net = [{ forward = \"tcp:9:1\" }, { forward = \"udp:9:2\" }]").empty());
  CHECK(
      has("net = [\"user\", \"user\", \"user\", \"user\", \"user\", \"user\", \"user\", \"user\", "
          "\"user\"]",
          "more than 8 network cards"));
}

}  // namespace vmm
