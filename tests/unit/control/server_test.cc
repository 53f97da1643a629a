#include "vmm/control/server.h"

#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstring>
#include <string>
#include <vector>

#include "tests/support/fake_clock.h"
#include "tests/unit/support/temp_dir.h"

using namespace std::chrono_literals;
using vmm::control::Command;
using vmm::control::Request;
using vmm::control::Server;

namespace {

const std::string kHello = "hello\n";
const std::string kStatus = "{\"command\":\"status\"}\n";
const std::string kWait = "{\"id\":9,\"command\":\"wait\"}\n";
const std::string kAnswer = "{\"id\":null,\"ok\":true,\"result\":1}\n";

// Answers at once, but for `wait`.
struct Rig {
  TempDir directory;
  const std::string path = directory.path() / "control";
  vmm::FakeClock clock;
  std::unique_ptr<vmm::EventLoop> loop = std::move(*vmm::EventLoop::Create(clock));
  std::vector<Command> heard;
  std::vector<Server::Ticket> waiting;
  std::string result = "1";
  std::unique_ptr<Server> server;

  explicit Rig(const Server::Limits& limits = {}) {
    auto made = Server::Listen(
        path, kHello, *loop,
        [this](Server::Ticket ticket, const Request& request) {
          heard.push_back(request.command);
          if (request.command == Command::kWait) {
            waiting.push_back(ticket);
          } else {
            server->Answer(ticket, result);
          }
        },
        limits);
    REQUIRE(made);
    server = std::move(*made);
  }
  // A socket of the same host has at once what was sent there.
  void Turn() {
    for (unsigned i = 0; i < 8; ++i) loop->RunPending();
  }
};

struct Peer {
  explicit Peer(Rig& rig) : fd(socket(AF_UNIX, SOCK_STREAM, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, rig.path.c_str(), sizeof address.sun_path - 1);
    REQUIRE(connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    rig.Turn();
  }
  void Say(std::string_view text) const {
    REQUIRE(send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL) ==
            static_cast<ssize_t>(text.size()));
  }
  // All that has come; "(end)" behind it when the other side has closed.
  std::string Hear() const {
    std::string all;
    for (char text[65536];;) {
      const ssize_t count = recv(fd.get(), text, sizeof text, MSG_DONTWAIT);
      if (count < 0) return all;
      if (count == 0) return all + "(end)";
      all.append(text, static_cast<size_t>(count));
    }
  }
  // Turns the loop until the server has closed the connection; what came before.
  std::string HearUntilEnd(Rig& rig) const {
    std::string all;
    for (unsigned turns = 0; turns < 10'000; ++turns) {
      rig.Turn();
      all += Hear();
      if (all.ends_with("(end)")) return all;
      poll(nullptr, 0, 1);
    }
    FAIL("the server has not closed the connection; " << all);
    return all;
  }
  vmm::UniqueFd fd;
};

}  // namespace

TEST_CASE("a client is greeted and its requests are answered in order", "[control]") {
  Rig rig;
  const Peer peer(rig);
  CHECK(peer.Hear() == kHello);
  peer.Say(kStatus);
  rig.Turn();
  CHECK(peer.Hear() == kAnswer);
  peer.Say("\r\n\n" + kStatus + "{\"command\":\"no\"}\r\n" + kStatus);
  rig.Turn();
  const std::string text = peer.Hear();
  CHECK(text.starts_with(kAnswer + "{\"id\":null,\"ok\":false,\"error\":{\"code\":64,"));
  CHECK(text.ends_with("}\n" + kAnswer));
  CHECK(rig.heard.size() == 3);
}

TEST_CASE("requests come in any pieces", "[control]") {
  Rig rig;
  const Peer peer(rig);
  for (const char byte : kStatus + kStatus) {
    peer.Say({&byte, 1});
    rig.Turn();
  }
  CHECK(peer.Hear() == kHello + kAnswer + kAnswer);
}

TEST_CASE("an answer may come later, and the next request waits for it", "[control]") {
  Rig rig;
  const Peer waiting(rig), other(rig);
  waiting.Say(kWait + kStatus);
  other.Say(kStatus);
  rig.Turn();
  CHECK(waiting.Hear() == kHello);
  CHECK(other.Hear() == kHello + kAnswer);  // nobody waits for the other's
  REQUIRE(rig.waiting.size() == 1);
  rig.server->Answer(rig.waiting[0], std::string("2"));
  CHECK(waiting.Hear() == "{\"id\":9,\"ok\":true,\"result\":2}\n" + kAnswer);
  rig.server->Answer(rig.waiting[0], std::string("3"));  // once is enough
  rig.Turn();
  CHECK(waiting.Hear() == "");
}

TEST_CASE("a client that says no more gets its answers, then the end", "[control]") {
  Rig rig;
  const Peer peer(rig);
  peer.Say(kStatus + kWait);
  shutdown(peer.fd.get(), SHUT_WR);
  rig.Turn();
  CHECK(peer.Hear() == kHello + kAnswer);
  CHECK(rig.server->clients() == 1);
  rig.server->Answer(rig.waiting.at(0), std::string("2"));
  rig.Turn();
  CHECK(peer.Hear() == "{\"id\":9,\"ok\":true,\"result\":2}\n(end)");
  CHECK(rig.server->clients() == 0);
}

TEST_CASE("a client that goes in the middle is forgotten, its answer too", "[control]") {
  Rig rig;
  {
    const Peer waiting(rig), half(rig), unread(rig);
    waiting.Say(kWait);
    half.Say("{\"comm");
    unread.Say(kStatus);
    rig.Turn();
    CHECK(rig.server->clients() == 3);
  }
  rig.Turn();
  CHECK(rig.server->clients() == 0);
  rig.server->Answer(rig.waiting.at(0), std::string("2"));
  const Peer next(rig);
  next.Say(kStatus);
  rig.Turn();
  CHECK(next.Hear() == kHello + kAnswer);
}

TEST_CASE("a line without an end is refused before it is long", "[control]") {
  Rig rig;
  const Peer peer(rig);
  const std::string chunk(4096, 'x');
  for (unsigned i = 0; i < 256; ++i) {  // 1 MiB, as far as it is taken
    send(peer.fd.get(), chunk.data(), chunk.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    rig.Turn();
  }
  const std::string text = peer.Hear();
  CHECK(text.find("a line has at most 16384 bytes") != std::string::npos);
  CHECK(rig.server->clients() == 0);
  // A long line with its end is no better; one that just fits is read.
  const Peer other(rig);
  other.Say(std::string(Server::kMostLine + 1, ' ') + "\n");
  CHECK(other.HearUntilEnd(rig).find("at most") != std::string::npos);
  const Peer fits(rig);
  fits.Say(std::string(Server::kMostLine - kStatus.size() + 1, ' ') + kStatus);
  rig.Turn();
  CHECK(fits.Hear() == kHello + kAnswer);
}

TEST_CASE("a client that takes no answers is asked for no more, and dropped in the end",
          "[control]") {
  Rig rig({.clients = 4, .patience = 50ms, .idle = 60s});
  rig.result = "\"" + std::string(1 << 20, 'x') + "\"";
  const Peer peer(rig);
  const int small = 4096;
  setsockopt(peer.fd.get(), SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
  for (unsigned i = 0; i < 50; ++i) peer.Say(kStatus);
  rig.Turn();
  CHECK(rig.heard.size() == 1);  // the second waits until the first answer is taken
  for (unsigned turns = 0; rig.server->clients() != 0 && turns < 10'000; ++turns) {
    rig.Turn();
    poll(nullptr, 0, 1);
  }
  CHECK(rig.server->clients() == 0);
  CHECK(rig.heard.size() == 1);
}

TEST_CASE("an answer that is longer than the socket's room arrives as it is read", "[control]") {
  Rig rig;
  rig.result = "\"" + std::string(1 << 20, 'x') + "\"";
  const Peer peer(rig);
  peer.Say(kStatus + kStatus);
  const size_t wanted = kHello.size() + 2 * ((1 << 20) + kAnswer.size() + 1);
  std::string text;
  for (unsigned turns = 0; text.size() < wanted && turns < 10'000; ++turns) {
    rig.Turn();
    text += peer.Hear();
  }
  CHECK(text.size() == wanted);
  CHECK(rig.server->clients() == 1);
}

TEST_CASE("half a line is not waited for for ever, an answer is", "[control]") {
  Rig rig({.clients = 4, .patience = 20ms, .idle = 60s});
  const Peer half(rig), waiting(rig);
  waiting.Say(kWait);
  rig.Turn();
  half.Say("{");
  CHECK(half.HearUntilEnd(rig) == kHello + "(end)");
  CHECK(rig.server->clients() == 1);
  rig.server->Answer(rig.waiting.at(0), std::string("2"));
  CHECK(waiting.Hear().ends_with("\"result\":2}\n"));
}

TEST_CASE("a client that wants nothing goes in the end", "[control]") {
  Rig rig({.clients = 4, .patience = 60s, .idle = 20ms});
  const Peer idle(rig);
  CHECK(idle.HearUntilEnd(rig) == kHello + "(end)");
  CHECK(rig.server->clients() == 0);
}

TEST_CASE("a byte now and then does not keep a client", "[control]") {
  Rig rig({.clients = 4, .patience = 50ms, .idle = 60s});
  const Peer peer(rig);
  for (unsigned turns = 0; turns < 10'000; ++turns) {
    if (send(peer.fd.get(), " ", 1, MSG_NOSIGNAL) < 0) break;
    rig.Turn();
    poll(nullptr, 0, 1);
  }
  CHECK(rig.server->clients() == 0);
}

TEST_CASE("too many clients are turned away, and told", "[control]") {
  Rig rig({.clients = 3, .patience = 5s, .idle = 60s});
  std::vector<std::unique_ptr<Peer>> peers;
  for (unsigned i = 0; i < 100; ++i) peers.push_back(std::make_unique<Peer>(rig));
  CHECK(rig.server->clients() == 3);
  for (unsigned i = 0; i < 3; ++i) CHECK(peers[i]->Hear() == kHello);
  for (unsigned i = 3; i < 100; ++i) {
    const std::string text = peers[i]->Hear();
    CHECK(text.find("3 clients are connected already") != std::string::npos);
    CHECK(text.ends_with("(end)"));
  }
  peers.erase(peers.begin());
  rig.Turn();
  const Peer next(rig);
  CHECK(next.Hear() == kHello);
}

TEST_CASE("without a free descriptor the server hears again later", "[control]") {
  Rig rig;
  rlimit before{};
  REQUIRE(getrlimit(RLIMIT_NOFILE, &before) == 0);
  auto peer = std::make_unique<Peer>(rig);  // while there are some
  const vmm::UniqueFd probe(dup(0));
  const vmm::UniqueFd late(socket(AF_UNIX, SOCK_STREAM, 0));
  rlimit tight = before;
  tight.rlim_cur = static_cast<rlim_t>(probe.get());
  REQUIRE(setrlimit(RLIMIT_NOFILE, &tight) == 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, rig.path.c_str(), sizeof address.sun_path - 1);
  const int connected = connect(late.get(), reinterpret_cast<sockaddr*>(&address), sizeof address);
  rig.Turn();
  const unsigned meanwhile = rig.server->clients();
  REQUIRE(setrlimit(RLIMIT_NOFILE, &before) == 0);
  CHECK(connected == 0);
  CHECK(meanwhile == 1);
  for (unsigned turns = 0; rig.server->clients() != 2 && turns < 10'000; ++turns) {
    rig.Turn();
    poll(nullptr, 0, 1);
  }
  CHECK(rig.server->clients() == 2);
}

TEST_CASE("only the machine's user and root may control it", "[control]") {
  CHECK(Server::MayControl({.pid = 1, .uid = 1000, .gid = 5}, 1000));
  CHECK(Server::MayControl({.pid = 1, .uid = 0, .gid = 5}, 1000));
  CHECK_FALSE(Server::MayControl({.pid = 1, .uid = 1001, .gid = 0}, 1000));
  CHECK_FALSE(Server::MayControl({.pid = 1, .uid = 1000, .gid = 0}, 0));
  const Rig rig;
  struct stat status{};
  REQUIRE(stat(rig.path.c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0600);
}

TEST_CASE("a live server keeps its socket; a dead one's is replaced", "[control]") {
  auto rig = std::make_unique<Rig>();
  const auto second =
      Server::Listen(rig->path, kHello, *rig->loop, [](Server::Ticket, const Request&) {}, {});
  REQUIRE_FALSE(second);
  CHECK(second.error().code == vmm::ExitCode::kCannotCreate);
  const std::string path = rig->path;
  rig->server.reset();
  CHECK(access(path.c_str(), F_OK) != 0);
  {
    const vmm::UniqueFd dead(socket(AF_UNIX, SOCK_STREAM, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    REQUIRE(bind(dead.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  }
  REQUIRE(access(path.c_str(), F_OK) == 0);
  CHECK(Server::Listen(path, kHello, *rig->loop, [](Server::Ticket, const Request&) {}, {}));
}

TEST_CASE("at the end requests that came are taken, and clients stay until the server goes",
          "[control]") {
  Rig rig;
  const Peer peer(rig), waiting(rig);
  waiting.Say(kWait);
  rig.Turn();
  peer.Say(kStatus);  // the loop doesn't run any more
  rig.server->Finish();
  CHECK(peer.Hear() == kHello + kAnswer);
  CHECK(waiting.Hear() == kHello);
  CHECK(access(rig.path.c_str(), F_OK) == 0);
  rig.server.reset();
  CHECK(waiting.Hear() == "(end)");
  CHECK(access(rig.path.c_str(), F_OK) != 0);
}
