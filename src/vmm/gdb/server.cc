#include "vmm/gdb/server.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <optional>
#include <utility>

#include "vmm/core/base/log.h"

namespace vmm::gdb {
namespace {

constexpr size_t kMostOutput = 256 * kKiB;  // a client that asks more than it reads waits
constexpr std::chrono::milliseconds kLastWords{500};

struct Resolved {
  sockaddr_storage address{};
  socklen_t size = 0;
  int family = 0;
};

std::optional<Resolved> Resolve(const GdbSpec& spec) {
  addrinfo wanted{};
  wanted.ai_socktype = SOCK_STREAM;
  wanted.ai_flags = AI_NUMERICSERV;
  addrinfo* found = nullptr;
  if (getaddrinfo(spec.host.c_str(), std::to_string(spec.port).c_str(), &wanted, &found) != 0) {
    return std::nullopt;
  }
  Resolved resolved;
  resolved.family = found->ai_family;
  resolved.size = found->ai_addrlen;
  std::memcpy(&resolved.address, found->ai_addr, found->ai_addrlen);
  freeaddrinfo(found);
  return resolved;
}

bool IsLoopback(const Resolved& resolved) {
  if (resolved.family == AF_INET) {
    const auto& address = reinterpret_cast<const sockaddr_in&>(resolved.address);
    return ntohl(address.sin_addr.s_addr) >> 24 == 127;
  }
  const auto& address = reinterpret_cast<const sockaddr_in6&>(resolved.address);
  return IN6_IS_ADDR_LOOPBACK(&address.sin6_addr);
}

// The address with the port that the host gave.
std::string TextOf(int fd) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  char host[INET6_ADDRSTRLEN] = "";
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return "?";
  if (address.ss_family == AF_INET) {
    const auto& in = reinterpret_cast<const sockaddr_in&>(address);
    inet_ntop(AF_INET, &in.sin_addr, host, sizeof host);
    return fmt::format("{}:{}", host, ntohs(in.sin_port));
  }
  const auto& in6 = reinterpret_cast<const sockaddr_in6&>(address);
  inet_ntop(AF_INET6, &in6.sin6_addr, host, sizeof host);
  return fmt::format("[{}]:{}", host, ntohs(in6.sin6_port));
}

}  // namespace

Result<std::unique_ptr<Server>> Server::Listen(const GdbSpec& spec, EventLoop& loop, Hooks hooks) {
  std::unique_ptr<Server> server(new Server(loop, std::move(hooks)));
  if (spec.kind == GdbSpec::Kind::kUnix) {
    auto listener = ListenUnix(spec.path, ExitCode::kCannotCreate);
    if (!listener) return tl::unexpected(std::move(listener.error()));
    server->listener_ = std::move(*listener);
    server->where_ = spec.path;
  } else if (auto listening = server->ListenTcp(spec); !listening) {
    return tl::unexpected(std::move(listening.error()));
  }
  Server* const self = server.get();
  if (auto added =
          loop.AddFd(self->listener_.fd.get(), EPOLLIN, [self](uint32_t) { self->OnConnection(); });
      !added) {
    return tl::unexpected(std::move(added.error()));
  }
  return server;
}

Result<void> Server::ListenTcp(const GdbSpec& spec) {
  const auto fail = [&](std::string_view why) {
    return Fail(ExitCode::kCannotCreate, fmt::format("can't listen on {}:{}: {}; fix: name another "
                                                     "port, or unix:PATH",
                                                     spec.host, spec.port, why));
  };
  const auto address = Resolve(spec);
  if (!address) return fail("there is no such host");
  UniqueFd fd(socket(address->family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return fail(std::strerror(errno));
  const int on = 1;
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&address->address), address->size) != 0 ||
      listen(fd.get(), 1) != 0) {
    return fail(std::strerror(errno));
  }
  if (!IsLoopback(*address)) {
    Log(LogLevel::kWarning,
        "gdb: whoever reaches this address controls the guest: there is no "
        "password");
  }
  where_ = TextOf(fd.get());
  listener_.fd = std::move(fd);
  tcp_ = true;
  return {};
}

Server::~Server() {
  if (client_) loop_.RemoveFd(client_.get());
  if (listener_.fd) loop_.RemoveFd(listener_.fd.get());
}

void Server::OnConnection() {
  UniqueFd client(accept4(listener_.fd.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (!client) {
    if (errno == EMFILE || errno == ENFILE) {
      loop_.RemoveFd(listener_.fd.get());  // it would ask again at once, for ever
      Log(LogLevel::kWarning, "gdb: no descriptor left for a debugger; no more are accepted");
    }
    return;
  }
  if (client_) {
    Log(LogLevel::kWarning, "gdb: a second debugger was turned away");
    return;
  }
  const int on = 1;
  if (tcp_) setsockopt(client.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  client_ = std::move(client);
  reader_ = {};
  last_frame_.clear();
  output_.clear();
  acks_ = true;
  hanging_up_ = dropping_ = false;
  watched_ = EPOLLIN;
  if (!loop_.AddFd(client_.get(), watched_, [this](uint32_t events) { OnClient(events); })) {
    client_.Reset();
    return;
  }
  hooks_.on_connect();
}

void Server::OnClient(uint32_t events) {
  if (events & EPOLLOUT) Flush();
  if (client_ && (events & (EPOLLIN | EPOLLHUP | EPOLLERR))) Receive();
}

void Server::Receive() {
  uint8_t bytes[4096];
  const ssize_t count = recv(client_.get(), bytes, sizeof bytes, 0);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (count <= 0) return Drop();
  Handle({bytes, static_cast<size_t>(count)});
}

void Server::Handle(std::span<const uint8_t> bytes) {
  while (client_ && !hanging_up_) {
    switch (reader_.Next(bytes)) {
      case PacketReader::Event::kNone:
        return;
      case PacketReader::Event::kPacket:
        if (acks_) Write("+");
        hooks_.on_packet(reader_.packet());
        break;
      case PacketReader::Event::kBadChecksum:
        if (acks_) Write("-");
        break;
      case PacketReader::Event::kTooLong:
        if (acks_) Write("+");
        Send("E.the packet is too long");
        break;
      case PacketReader::Event::kInterrupt:
        hooks_.on_interrupt();
        break;
      case PacketReader::Event::kAck:
        last_frame_.clear();
        break;
      case PacketReader::Event::kNak:
        if (acks_ && !last_frame_.empty()) Write(std::string(last_frame_));
        break;
    }
  }
}

void Server::Send(std::string_view text) {
  if (!client_ || hanging_up_) return;
  last_frame_ = FramePacket(text);
  Write(std::string(last_frame_));
}

void Server::Write(std::string_view bytes) {
  output_ += bytes;
  Flush();
}

void Server::Flush() {
  while (client_ && !output_.empty()) {
    const ssize_t count = send(client_.get(), output_.data(), output_.size(), MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) break;
    if (count < 0) output_.clear();  // it has gone; reading says so
    if (count > 0) output_.erase(0, static_cast<size_t>(count));
  }
  Watch();
}

void Server::Watch() {
  if (!client_) return;
  if (hanging_up_ && output_.empty()) {
    // Not here: the caller may be in the middle of its packet.
    if (!std::exchange(dropping_, true)) loop_.Post([this] { Drop(); });
    return;
  }
  const uint32_t wanted = (output_.size() < kMostOutput ? uint32_t{EPOLLIN} : 0u) |
                          (output_.empty() ? 0u : uint32_t{EPOLLOUT});
  if (wanted == watched_) return;
  watched_ = wanted;
  loop_.ModifyFd(client_.get(), watched_);
}

void Server::HangUp() {
  if (!client_ || hanging_up_) return;
  hanging_up_ = true;
  Watch();
}

void Server::Drop() {
  if (!client_) return;
  dropping_ = true;
  loop_.RemoveFd(client_.get());
  client_.Reset();
  hooks_.on_disconnect();
}

void Server::Finish() {
  const auto end = std::chrono::steady_clock::now() + kLastWords;
  while (client_ && !output_.empty()) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        end - std::chrono::steady_clock::now());
    pollfd wait{.fd = client_.get(), .events = POLLOUT, .revents = 0};
    if (left.count() <= 0 || poll(&wait, 1, static_cast<int>(left.count())) <= 0) return;
    Flush();
  }
}

}  // namespace vmm::gdb
