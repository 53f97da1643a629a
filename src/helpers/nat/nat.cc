#include "helpers/nat/nat.h"

#include <arpa/inet.h>
#include <slirp/libslirp.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <ctime>
#include <set>

namespace nat {
namespace {

int64_t NowNs() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

int64_t NowMs() {
  return NowNs() / 1'000'000;
}

in_addr Address(const char* text) {
  in_addr address{};
  inet_pton(AF_INET, text, &address);
  return address;
}

in6_addr Address6(const char* text) {
  in6_addr address{};
  inet_pton(AF_INET6, text, &address);
  return address;
}

// What vmm has not taken: TCP sends again what is lost beyond it.
constexpr size_t kMostWaiting = 4 * 1024 * 1024;

constexpr struct {
  int slirp;
  short host;
} kEvents[] = {{SLIRP_POLL_IN, POLLIN},
               {SLIRP_POLL_OUT, POLLOUT},
               {SLIRP_POLL_PRI, POLLPRI},
               {SLIRP_POLL_ERR, POLLERR},
               {SLIRP_POLL_HUP, POLLHUP}};

// Our sockets, by their numbers: libslirp does not tell which it has made.
std::set<int> Sockets() {
  std::set<int> sockets;
  for (int fd = 0; fd < 1024; ++fd) {
    int type = 0;
    socklen_t size = sizeof type;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0) sockets.insert(fd);
  }
  return sockets;
}

}  // namespace

struct Callbacks {
  static Nat& Of(void* opaque) { return *static_cast<Nat*>(opaque); }
  static ssize_t SendPacket(const void* frame, size_t length, void* opaque) {
    vmm::FrameStream& pipe = Of(opaque).pipe_;
    if (pipe.waiting() <= kMostWaiting) pipe.Add({static_cast<const uint8_t*>(frame), length});
    return static_cast<ssize_t>(length);
  }
  static void GuestError(const char*, void*) {}  // a hostile guest could fill the log
  static int64_t Clock(void*) { return NowNs(); }
  static void* NewTimer(SlirpTimerCb callback, void* callback_opaque, void* opaque) {
    auto& timers = Of(opaque).timers_;
    timers.push_back(std::make_unique<Nat::Timer>(Nat::Timer{callback, callback_opaque}));
    return timers.back().get();
  }
  static void FreeTimer(void* timer, void* opaque) {
    Of(opaque).timers_.remove_if([timer](const auto& other) { return other.get() == timer; });
  }
  static void SetTimer(void* timer, int64_t due, void*) {
    static_cast<Nat::Timer*>(timer)->due = due;
  }
  static void Nothing(int, void*) {}
  static void Notify(void*) {}
  static int AddPoll(int fd, int events, void* opaque) {
    auto& polls = Of(opaque).polls_;
    short wanted = 0;
    for (const auto& event : kEvents) {
      if (events & event.slirp) wanted |= event.host;
    }
    polls.push_back({fd, wanted, 0});
    return static_cast<int>(polls.size() - 1);
  }
  static int GetEvents(int index, void* opaque) {
    int events = 0;
    for (const auto& event : kEvents) {
      if (Of(opaque).polls_[static_cast<size_t>(index)].revents & event.host) events |= event.slirp;
    }
    return events;
  }
};

Nat::Nat(const Options& options, vmm::FrameStream& pipe)
    : fd_(options.fd), pipe_(pipe), guest6_(options.guest6) {
  static const SlirpCb callbacks = [] {
    SlirpCb cb{};
    cb.send_packet = &Callbacks::SendPacket;
    cb.guest_error = &Callbacks::GuestError;
    cb.clock_get_ns = &Callbacks::Clock;
    cb.timer_new = &Callbacks::NewTimer;
    cb.timer_free = &Callbacks::FreeTimer;
    cb.timer_mod = &Callbacks::SetTimer;
    cb.register_poll_fd = &Callbacks::Nothing;
    cb.unregister_poll_fd = &Callbacks::Nothing;
    cb.notify = &Callbacks::Notify;
    return cb;
  }();
  SlirpConfig config{};
  config.version = 1;
  config.restricted = options.restricted;
  config.in_enabled = true;
  config.vnetwork = Address("10.0.2.0");
  config.vnetmask = Address("255.255.255.0");
  config.vhost = Address("10.0.2.2");
  config.vnameserver = Address("10.0.2.3");
  config.vdhcp_start = Address("10.0.2.15");
  config.in6_enabled = true;
  config.vprefix_addr6 = Address6("fec0::");
  config.vprefix_len = 64;
  config.vhost6 = Address6("fec0::2");
  config.vnameserver6 = Address6("fec0::3");
  config.vhostname = options.hostname.c_str();
  config.if_mtu = config.if_mru = options.mtu;
  slirp_ = slirp_new(&config, &callbacks, this);
}

Nat::~Nat() {
  slirp_cleanup(slirp_);
}

int Nat::Add(Forward& forward) {
  const std::set<int> before = Sockets();
  const int failed = forward.is_ipv6
                         ? Add6(forward)
                         : slirp_add_hostfwd(slirp_, forward.is_udp, forward.address,
                                             forward.host_port, in_addr{}, forward.guest_port);
  if (failed != 0) return errno != 0 ? errno : EINVAL;
  for (const int fd : Sockets()) {
    sockaddr_in6 name{};  // in a sockaddr_in the port is at the same place
    socklen_t size = sizeof name;
    if (before.count(fd) == 0 && getsockname(fd, reinterpret_cast<sockaddr*>(&name), &size) == 0) {
      forward.host_port = ntohs(name.sin6_port);
    }
  }
  return 0;
}

int Nat::Add6(const Forward& forward) {
  sockaddr_in6 host{}, guest{};
  host.sin6_family = guest.sin6_family = AF_INET6;
  host.sin6_addr = forward.address6;
  host.sin6_port = htons(forward.host_port);
  guest.sin6_addr = guest6_;
  guest.sin6_port = htons(forward.guest_port);
  return slirp_add_hostxfwd(slirp_, reinterpret_cast<const sockaddr*>(&host), sizeof host,
                            reinterpret_cast<const sockaddr*>(&guest), sizeof guest,
                            SLIRP_HOSTFWD_V6ONLY | (forward.is_udp ? SLIRP_HOSTFWD_UDP : 0));
}

int64_t Nat::NextTimer() const {
  int64_t next = -1;
  for (const auto& timer : timers_) {
    if (timer->due < 0) continue;
    const int64_t left = std::max<int64_t>(0, timer->due - NowMs());
    if (next < 0 || left < next) next = left;
  }
  return next;
}

void Nat::RunTimers() {
  const int64_t now = NowMs();
  // A callback may arm timers, or free its own.
  std::vector<Timer*> due;
  for (const auto& timer : timers_) {
    if (timer->due >= 0 && timer->due <= now) due.push_back(timer.get());
  }
  for (Timer* timer : due) {
    timer->due = -1;
    timer->callback(timer->opaque);
  }
}

void Nat::Run() {
  while (!pipe_.is_over()) {
    polls_.clear();
    const short wanted = static_cast<short>(POLLIN | (pipe_.waiting() != 0 ? POLLOUT : 0));
    polls_.push_back({fd_, wanted, 0});
    uint32_t timeout = UINT32_MAX;
    slirp_pollfds_fill(slirp_, &timeout, &Callbacks::AddPoll, this);
    int64_t wait = timeout == UINT32_MAX ? -1 : int64_t{timeout};
    const int64_t timer = NextTimer();
    if (timer >= 0 && (wait < 0 || timer < wait)) wait = timer;
    const int ready =
        poll(polls_.data(), polls_.size(), static_cast<int>(std::min<int64_t>(wait, INT_MAX)));
    const bool from_vmm = ready > 0 && polls_[0].revents != 0;
    slirp_pollfds_poll(slirp_, ready < 0, &Callbacks::GetEvents, this);
    RunTimers();
    if (from_vmm) {
      pipe_.Fill();
      for (std::span<const uint8_t> frame; pipe_.Next(frame);)
        slirp_input(slirp_, frame.data(), static_cast<int>(frame.size()));
    }
    pipe_.Flush();
  }
}

}  // namespace nat
