#include "vmm/control/server.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "vmm/control/answer.h"
#include "vmm/core/base/log.h"

namespace vmm::control {
namespace {

constexpr std::chrono::milliseconds kLastWords{500};
constexpr std::chrono::milliseconds kDeafFor{1000};

}  // namespace

Server::Server(EventLoop& loop, std::string greeting, OnRequest on_request, const Limits& limits)
    : loop_(loop),
      greeting_(std::move(greeting)),
      on_request_(std::move(on_request)),
      limits_(limits) {}

Result<std::unique_ptr<Server>> Server::Listen(const std::string& path, std::string greeting,
                                               EventLoop& loop, OnRequest on_request,
                                               const Limits& limits) {
  std::unique_ptr<Server> server(
      new Server(loop, std::move(greeting), std::move(on_request), limits));
  Server* const self = server.get();
  auto timer = HostTimer::Create(loop, [self] { self->OnTimer(); });
  if (!timer) return tl::unexpected(std::move(timer.error()));
  self->timer_ = std::move(*timer);
  auto listener = ListenUnix(path, ExitCode::kCannotCreate);
  if (!listener) return tl::unexpected(std::move(listener.error()));
  self->listener_ = std::move(*listener);
  if (auto added =
          loop.AddFd(self->listener_.fd.get(), EPOLLIN, [self](uint32_t) { self->OnConnection(); });
      !added) {
    return tl::unexpected(std::move(added.error()));
  }
  return server;
}

Server::~Server() {
  if (listener_.fd && !is_deaf_) loop_.RemoveFd(listener_.fd.get());
  listener_ = {};
  for (const auto& [ticket, client] : clients_) loop_.RemoveFd(client.fd.get());
}

void Server::OnConnection() {
  UniqueFd fd(accept4(listener_.fd.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (!fd) {
    if (errno == EMFILE || errno == ENFILE) {
      // It would ask again at once, for ever.
      loop_.RemoveFd(listener_.fd.get());
      is_deaf_ = true;
      timer_->Start(kDeafFor);
    }
    return;
  }
  ucred peer{};
  socklen_t size = sizeof peer;
  if (getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 ||
      !MayControl(peer, geteuid())) {
    return Refuse(std::move(fd), {ExitCode::kNoPermission, "this machine belongs to another user"});
  }
  if (clients_.size() >= limits_.clients) {
    return Refuse(std::move(fd),
                  {ExitCode::kUnavailable,
                   fmt::format("{} clients are connected already; try again", clients_.size())});
  }
  const Ticket ticket = next_ticket_++;
  Client& client = clients_[ticket];
  client.fd = std::move(fd);
  client.watched = EPOLLIN;
  client.idle_since = Clock::now();
  client.output = greeting_;
  if (!loop_.AddFd(client.fd.get(), client.watched,
                   [this, ticket](uint32_t events) { OnClient(ticket, events); })) {
    clients_.erase(ticket);
    return;
  }
  Flush(client);
  Settle(ticket);
}

// An empty socket has room for a line.
void Server::Refuse(UniqueFd fd, Error error) {
  const std::string line = AnswerLine("null", tl::unexpected(std::move(error)));
  send(fd.get(), line.data(), line.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
}

Server::Client* Server::Find(Ticket ticket) {
  const auto found = clients_.find(ticket);
  return found == clients_.end() ? nullptr : &found->second;
}

void Server::Drop(Ticket ticket) {
  const auto found = clients_.find(ticket);
  if (found == clients_.end()) return;
  loop_.RemoveFd(found->second.fd.get());
  clients_.erase(found);
}

void Server::OnClient(Ticket ticket, uint32_t events) {
  Client* client = Find(ticket);
  if (client == nullptr) return;
  if ((events & EPOLLOUT) != 0) Flush(*client);
  const bool has_gone = (events & (EPOLLHUP | EPOLLERR)) != 0;
  // The request of one that has left goes on; for its answer nobody is there.
  const bool may_read = (client->watched & EPOLLIN) != 0;
  if ((may_read && !Receive(*client)) || (has_gone && !may_read)) return Drop(ticket);
  ServeLines(ticket);
}

// False: the client is lost.
bool Server::Receive(Client& client) {
  char bytes[4096];
  const ssize_t count = recv(client.fd.get(), bytes, sizeof bytes, 0);
  if (count < 0) return errno == EAGAIN || errno == EINTR;
  if (count == 0) client.has_ended = true;
  if (client.input.empty()) client.idle_since = Clock::now();
  client.input.append(bytes, static_cast<size_t>(count));
  return true;
}

void Server::Flush(Client& client) {
  while (!client.output.empty()) {
    const ssize_t count = send(client.fd.get(), client.output.data(), client.output.size(),
                               MSG_DONTWAIT | MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) return;
    if (count < 0) {
      client.output.clear();
      client.is_closing = true;
      return;
    }
    client.output.erase(0, static_cast<size_t>(count));
    client.idle_since = Clock::now();
  }
}

// One request after the other, as long as their answers come at once and are taken.
void Server::ServeLines(Ticket ticket) {
  for (Client* client; (client = Find(ticket)) != nullptr;) {
    if (client->is_asking || client->is_closing || !client->output.empty()) break;
    const size_t end = client->input.find('\n');
    if (end == std::string::npos && client->input.size() <= kMostLine) break;
    if (end == std::string::npos || end > kMostLine) {
      client->is_closing = true;
      client->output = AnswerLine(
          "null", Fail(ExitCode::kUsage, fmt::format("a line has at most {} bytes", kMostLine)));
      Flush(*client);
      break;
    }
    const std::string line = client->input.substr(0, end);
    client->input.erase(0, end + 1);
    client->idle_since = Clock::now();
    client->is_handling = true;
    HandleLine(ticket, line);
    client = Find(ticket);
    if (client != nullptr) client->is_handling = false;
  }
  Settle(ticket);
}

void Server::HandleLine(Ticket ticket, std::string_view line) {
  while (line.ends_with('\r') || line.ends_with(' ')) line.remove_suffix(1);
  if (line.empty()) return;
  Client& client = *Find(ticket);
  client.is_asking = true;
  const auto request = ParseRequest(line);
  client.id = request ? request->id : request.error().id;
  if (request) {
    on_request_(ticket, *request);
  } else {
    Answer(ticket, tl::unexpected(request.error().error));
  }
}

void Server::Answer(Ticket ticket, const Result<std::string>& result) {
  Client* client = Find(ticket);
  if (client == nullptr || !client->is_asking) return;
  client->is_asking = false;
  client->idle_since = Clock::now();
  client->output += AnswerLine(client->id, result);
  Flush(*client);
  if (!client->is_handling) ServeLines(ticket);
}

// Drops a client that is through, and watches the others for what they do next.
void Server::Settle(Ticket ticket) {
  if (Client* client = Find(ticket)) {
    const bool all_sent = client->output.empty();
    if (all_sent && !client->is_asking && (client->is_closing || client->has_ended)) {
      Drop(ticket);
    } else {
      const bool may_ask =
          all_sent && !client->is_asking && !client->is_closing && !client->has_ended;
      const uint32_t wanted =
          (may_ask ? uint32_t{EPOLLIN} : 0) | (all_sent ? 0 : uint32_t{EPOLLOUT});
      if (wanted != client->watched) loop_.ModifyFd(client->fd.get(), client->watched = wanted);
    }
  }
  SetTimer();
}

// Who waits for an answer may wait for ever.
std::optional<Server::Clock::time_point> Server::DeadlineOf(const Client& client) const {
  if (client.output.empty() && client.is_asking) return std::nullopt;
  const bool is_due = !client.output.empty() || !client.input.empty();
  return client.idle_since + (is_due ? limits_.patience : limits_.idle);
}

void Server::SetTimer() {
  if (is_deaf_) return;
  std::optional<Clock::time_point> first;
  for (const auto& [ticket, client] : clients_) {
    const auto deadline = DeadlineOf(client);
    if (deadline && (!first || *deadline < *first)) first = deadline;
  }
  if (!first) return timer_->Cancel();
  timer_->Start(std::max(*first - Clock::now(), Clock::duration(0)));
}

void Server::OnTimer() {
  if (std::exchange(is_deaf_, false)) {
    if (!loop_.AddFd(listener_.fd.get(), EPOLLIN, [this](uint32_t) { OnConnection(); })) {
      is_deaf_ = true;
      return timer_->Start(kDeafFor);
    }
  }
  const auto now = Clock::now();
  for (auto client = clients_.begin(); client != clients_.end();) {
    const auto deadline = DeadlineOf(client->second);
    const Ticket ticket = (client++)->first;
    if (deadline && *deadline <= now) Drop(ticket);
  }
  SetTimer();
}

void Server::Finish() {
  const auto end = Clock::now() + kLastWords;
  std::vector<Ticket> tickets;
  for (const auto& [ticket, client] : clients_) tickets.push_back(ticket);
  for (const Ticket ticket : tickets) {
    OnClient(ticket, EPOLLIN);
    for (Client* client; (client = Find(ticket)) != nullptr && !client->output.empty();) {
      const auto left =
          std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now()).count();
      pollfd wait{.fd = client->fd.get(), .events = POLLOUT, .revents = 0};
      if (left <= 0 || poll(&wait, 1, static_cast<int>(left)) <= 0) break;
      OnClient(ticket, EPOLLOUT);
    }
  }
}

}  // namespace vmm::control
