#include "vmm/gdb/server.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "tests/support/fake_clock.h"
#include "tests/unit/support/temp_dir.h"

using vmm::GdbSpec;
using vmm::gdb::Server;

namespace {

GdbSpec Tcp(uint16_t port = 0, std::string host = "127.0.0.1") {
  return {.kind = GdbSpec::Kind::kTcp, .host = std::move(host), .port = port, .path = {}};
}

// A Unix socket unless told otherwise: what is sent there has arrived at once.
struct Host {
  TempDir directory;
  vmm::FakeClock clock;
  std::unique_ptr<vmm::EventLoop> loop = std::move(*vmm::EventLoop::Create(clock));
  std::vector<std::string> heard;
  std::unique_ptr<Server> server;

  Host() : Host(std::nullopt) {}
  explicit Host(const std::optional<GdbSpec>& wanted) {
    const GdbSpec spec = wanted.value_or(GdbSpec{
        .kind = GdbSpec::Kind::kUnix, .host = {}, .port = 0, .path = directory.path() / "gdb"});
    auto made = Server::Listen(
        spec, *loop,
        {[this] { heard.push_back("connect"); },
         [this](std::string_view packet) { heard.emplace_back(packet); },
         [this] { heard.push_back("interrupt"); }, [this] { heard.push_back("disconnect"); }});
    REQUIRE(made);
    server = std::move(*made);
  }
  void Turn() {
    for (unsigned i = 0; i < 5; ++i) loop->RunPending();
  }
};

struct Client {
  explicit Client(const std::string& where) {
    if (where.front() == '/') {
      sockaddr_un address{};
      address.sun_family = AF_UNIX;
      std::strncpy(address.sun_path, where.c_str(), sizeof address.sun_path - 1);
      fd = vmm::UniqueFd(socket(AF_UNIX, SOCK_STREAM, 0));
      REQUIRE(connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    } else {
      sockaddr_in address{};
      address.sin_family = AF_INET;
      address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      address.sin_port = htons(static_cast<uint16_t>(std::stoi(where.substr(where.find(':') + 1))));
      fd = vmm::UniqueFd(socket(AF_INET, SOCK_STREAM, 0));
      REQUIRE(connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    }
  }
  void Say(std::string_view text) {
    REQUIRE(send(fd.get(), text.data(), text.size(), 0) == static_cast<ssize_t>(text.size()));
  }
  // What has come; "(end)" when the other side has closed.
  std::string Hear() {
    char text[65536];
    const ssize_t count = recv(fd.get(), text, sizeof text, MSG_DONTWAIT);
    return count == 0 ? "(end)" : count < 0 ? "" : std::string(text, static_cast<size_t>(count));
  }
  vmm::UniqueFd fd;
};
using Heard = std::vector<std::string>;

}  // namespace

TEST_CASE("packets are acknowledged until that is switched off", "[gdb]") {
  Host host;
  Client client(host.server->where());
  client.Say("$?#3f\x03$?#00");
  host.Turn();
  CHECK(host.heard == Heard{"connect", "?", "interrupt"});
  CHECK(client.Hear() == "+-");
  host.server->Send("OK");
  CHECK(client.Hear() == "$OK#9a");
  client.Say("-");
  host.Turn();
  CHECK(client.Hear() == "$OK#9a");  // again
  client.Say("+-");
  host.Turn();
  CHECK(client.Hear() == "");
  host.server->StopAcks();
  client.Say("$?#3f$?#00");
  host.Turn();
  CHECK(client.Hear() == "");
  CHECK(host.heard == Heard{"connect", "?", "interrupt", "?"});
}

TEST_CASE("a debugger may come by TCP", "[gdb]") {
  Host host(Tcp());
  Client client(host.server->where());
  client.Say("$?#3f");
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (host.heard.size() < 2 && std::chrono::steady_clock::now() < end) host.loop->RunPending();
  CHECK(host.heard == Heard{"connect", "?"});
}

TEST_CASE("one debugger at a time; the next may come when it has gone", "[gdb]") {
  TempDir directory;
  const std::string path = directory.path() / "gdb.sock";
  {
    Host host(GdbSpec{.kind = GdbSpec::Kind::kUnix, .host = {}, .port = 0, .path = path});
    CHECK(host.server->where() == path);
    auto first = std::make_unique<Client>(path);
    host.Turn();
    Client second(path);
    host.Turn();
    CHECK(second.Hear() == "(end)");
    first.reset();
    host.Turn();
    Client third(path);
    host.Turn();
    CHECK(host.heard == Heard{"connect", "disconnect", "connect"});
    third.Say("$?#3f");
    host.Turn();
    CHECK(third.Hear() == "+");
  }
  CHECK(access(path.c_str(), F_OK) != 0);  // nothing is left behind
}

TEST_CASE("hanging up sends all first, and says so once", "[gdb]") {
  Host host;
  Client client(host.server->where());
  host.Turn();
  host.server->Send(std::string(100, 'x') + "y");
  host.server->HangUp();
  host.server->HangUp();
  host.server->Send("too late");
  client.Say("$?#3f");
  host.Turn();
  const std::string text = client.Hear();
  CHECK(text.starts_with("$x"));
  CHECK(text.find("too") == std::string::npos);
  CHECK(client.Hear() == "(end)");
  CHECK(host.heard == Heard{"connect", "disconnect"});
}

TEST_CASE("a debugger that does not read is not asked for more, and loses nothing", "[gdb]") {
  Host host;
  Client client(host.server->where());
  host.Turn();
  std::string big(12 * 1024 * 1024, 'x');
  for (size_t i = 0; i < big.size(); i += 2) big[i] = 'y';  // nothing to count
  host.server->Send(big);
  client.Say("$?#3f");
  host.Turn();
  CHECK(host.heard == Heard{"connect"});  // its packet waits
  size_t received = 0;
  for (unsigned i = 0; i < 1'000'000 && received < big.size(); ++i) {
    const std::string text = client.Hear();
    REQUIRE(text != "(end)");
    received += text.size();
    host.loop->RunPending();
  }
  CHECK(host.heard == Heard{"connect", "?"});
  CHECK(received > big.size());  // with its frame
}

TEST_CASE("a packet that is too long is answered with an error", "[gdb]") {
  Host host;
  Client client(host.server->where());
  std::string packet(vmm::gdb::PacketReader::kMaxPacket + 1, 'a');
  client.Say("$" + packet + "#61");
  host.Turn();
  host.Turn();
  CHECK(client.Hear().starts_with("+$E.the packet is too long#"));
  CHECK(host.heard == Heard{"connect"});
}

TEST_CASE("an address that can't be had is an error that names it", "[gdb]") {
  Host host(Tcp());
  const std::string where = host.server->where();
  const auto port = static_cast<uint16_t>(std::stoi(where.substr(where.find(':') + 1)));
  CHECK(port != 0);
  const auto taken = Server::Listen(Tcp(port), *host.loop, {});
  REQUIRE_FALSE(taken);
  CHECK(taken.error().code == vmm::ExitCode::kCannotCreate);
  CHECK(taken.error().message.find(where) != std::string::npos);
  const auto nowhere = Server::Listen(Tcp(1, "host.invalid"), *host.loop, {});
  REQUIRE_FALSE(nowhere);
  CHECK(nowhere.error().message.find("host.invalid") != std::string::npos);
}
