// Virtio consoles and named ports as vm.toml and the command line write them.
#include <catch2/catch.hpp>

#include "vmm/config/load_config.h"

namespace vmm {
namespace {

Result<Config> Parse(const std::string& text, std::vector<Override> overrides = {}) {
  return ParseConfig("kernel = \"k\"\n" + text, "/machine/vm.toml", overrides, false);
}

std::string ErrorOf(const std::string& text) {
  const auto config = Parse(text);
  return config ? "" : config.error().message;
}

}  // namespace

TEST_CASE("A port is a name, or a table that says where it leads", "[config]") {
  const auto config = Parse("port = [\"agent.0\", { name = \"log\", to = \"file:l\" }]");
  REQUIRE(config);
  REQUIRE(config->ports.size() == 2);
  CHECK(config->ports[0] ==
        PortSpec{"agent.0", {ConsoleSpec::Kind::kUnix, "/machine/agent.0.sock"}});
  CHECK(config->ports[1] == PortSpec{"log", {ConsoleSpec::Kind::kFile, "/machine/l"}});
}

TEST_CASE("--port takes the place of the file's ports", "[config]") {
  const auto config =
      Parse("port = [\"a\", \"b\"]", {{"port", "c,to=pty", "--port"}, {"port", "d", "--port"}});
  REQUIRE(config);
  REQUIRE(config->ports.size() == 2);
  CHECK(config->ports[0] == PortSpec{"c", {ConsoleSpec::Kind::kPty, {}}});
  CHECK(config->ports[1].to.path == "/machine/d.sock");
  CHECK(Parse("port = [\"a\"]", {{"port", "", "--port"}})->ports.empty());
}

TEST_CASE("Each fault of a port is told with its place and remedy", "[config]") {
  const auto at = [](const std::string& text) { return "/machine/vm.toml:2:" + text; };
  CHECK(ErrorOf("port = [{ to = \"pty\" }]") ==
        at("9: a port has no name (the guest finds it by that); fix: write name = "
           "\"org.example.agent\""));
  CHECK(ErrorOf("port = [\"a\", \"a\"]").find("two ports have the name a") != std::string::npos);
  CHECK(ErrorOf("port = [{ name = \"hvc0\", to = \"pty\" }]").find("two consoles have the name") !=
        std::string::npos);
  CHECK(ErrorOf("port = [\"a/b\"]") != "");
  CHECK(ErrorOf("port = [\"" + std::string(63, 'x') + "\"]").empty());
  CHECK(ErrorOf("port = [\"" + std::string(64, 'x') + "\"]").find("the most is 63") !=
        std::string::npos);
  CHECK(ErrorOf("port = [\"1\",\"2\",\"3\",\"4\",\"5\",\"6\"]").find("more than 5 ports") !=
        std::string::npos);
  CHECK(ErrorOf("port = [\"a\", { name = \"b\", to = \"unix:a.sock\" }]") ==
        at("23: a and b lead to the same place (their texts would mix); fix: write to = "
           "\"unix:b.sock\""));
  CHECK(ErrorOf("port = [\"a\"]\ndeterministic = true").find("a does not go with") !=
        std::string::npos);
}

TEST_CASE("Consoles of the virtio device are named as the guest names them", "[config]") {
  const auto config = Parse("[console]\nhvc0 = \"unix:h.sock\"\nhvc1 = \"pty\"");
  REQUIRE(config);
  CHECK(config->hvc[0] == ConsoleSpec{ConsoleSpec::Kind::kUnix, "/machine/h.sock"});
  CHECK(config->hvc[1].kind == ConsoleSpec::Kind::kPty);
  CHECK(ErrorOf("[console]\nhvc0 = \"stdio\"")
            .find("serial0 and hvc0 lead to the same place (serial0 leads to stdio by default)") !=
        std::string::npos);
  CHECK(ErrorOf("deterministic = true\n[console]\nhvc0 = \"pty\"").find("use a serial line") !=
        std::string::npos);
}

}  // namespace vmm
