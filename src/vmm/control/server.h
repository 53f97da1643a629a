// The control socket: who connects, lines in, answers out. It knows no command.
#pragma once

#include <sys/socket.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "vmm/control/request.h"
#include "vmm/core/base/result.h"
#include "vmm/core/host/event_loop.h"
#include "vmm/core/host/host_timer.h"
#include "vmm/core/host/unix_listener.h"

namespace vmm::control {

// A client has one request at a time; what it sends meanwhile stays in its socket. So nobody can
// make the machine keep more than one line and one answer, and nobody is waited for: a client that
// leaves half a line, an answer or nothing at all lying for too long is dropped.
//
// The I/O thread only.
class Server {
 public:
  static constexpr size_t kMostLine = 16 * 1024;  // bytes

  struct Limits {
    unsigned clients = 64;                     // more are turned away
    std::chrono::milliseconds patience{5000};  // for the rest of a line, and for room for an answer
    std::chrono::milliseconds idle{60'000};    // between requests
  };
  // Whoever asked; of a client that has gone it leads nowhere.
  using Ticket = uint64_t;
  // Calls Answer() once, now or later.
  using OnRequest = std::function<void(Ticket, const Request&)>;

  // `greeting`: the first line that each client gets. Errors are those of ListenUnix() with
  // kCannotCreate.
  static Result<std::unique_ptr<Server>> Listen(const std::string& path, std::string greeting,
                                                EventLoop& loop, OnRequest on_request,
                                                const Limits& limits);
  // The socket goes first, then the clients see the end.
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // `result`: JSON on one line.
  void Answer(Ticket ticket, const Result<std::string>& result);
  // The loop runs no more: takes requests that have arrived, and sends what the clients take within
  // a moment. Who waits for an answer stays connected.
  void Finish();

  unsigned clients() const { return static_cast<unsigned>(clients_.size()); }

  // The user of the machine, and root.
  static bool MayControl(const ucred& peer, uid_t own) { return peer.uid == own || peer.uid == 0; }

 private:
  using Clock = std::chrono::steady_clock;
  struct Client {
    UniqueFd fd;
    std::string input, output;
    std::string id = "null";       // of the request that is under way
    bool is_asking = false;        // a request is under way
    bool is_handling = false;      // ServeLines() is on the stack
    bool has_ended = false;        // it sends nothing more
    bool is_closing = false;       // once the output is sent
    uint32_t watched = 0;          // epoll events
    Clock::time_point idle_since;  // of what it has to do next
  };

  Server(EventLoop& loop, std::string greeting, OnRequest on_request, const Limits& limits);
  void OnConnection();
  void Refuse(UniqueFd fd, Error error);
  void OnClient(Ticket ticket, uint32_t events);
  bool Receive(Client& client);
  void Flush(Client& client);
  void ServeLines(Ticket ticket);
  void HandleLine(Ticket ticket, std::string_view line);
  void Settle(Ticket ticket);
  std::optional<Clock::time_point> DeadlineOf(const Client& client) const;
  void OnTimer();
  void SetTimer();
  Client* Find(Ticket ticket);
  void Drop(Ticket ticket);

  EventLoop& loop_;
  const std::string greeting_;
  const OnRequest on_request_;
  const Limits limits_;
  std::map<Ticket, Client> clients_;
  Ticket next_ticket_ = 1;
  std::unique_ptr<HostTimer> timer_;
  bool is_deaf_ = false;  // no descriptor was left for a client: listens again later
  UnixListener listener_;
};

}  // namespace vmm::control
