// A network of one guest behind the host's own sockets: libslirp with its loop.
#pragma once

#include <poll.h>

#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "helpers/nat/nat_options.h"
#include "vmm/core/protocol/frame_stream.h"

struct Slirp;

namespace nat {

// The guest's network is 10.0.2.0/24 and fec0::/64: the host is .2, DNS .3, the guest .15 by DHCP.
class Nat {
 public:
  // `pipe`: to vmm, on `options.fd`.
  Nat(const Options& options, vmm::FrameStream& pipe);
  ~Nat();
  Nat(const Nat&) = delete;
  Nat& operator=(const Nat&) = delete;

  // Listens; puts the port that the host chose into `forward`. An errno, or 0.
  int Add(Forward& forward);
  // Until vmm closes its end.
  void Run();

 private:
  int Add6(const Forward& forward);  // as slirp_add_hostfwd()
  struct Timer {
    void (*callback)(void*);
    void* opaque;
    int64_t due = -1;  // in ms; -1: not armed
  };
  friend struct Callbacks;  // libslirp's, which have a void* for us

  int64_t NextTimer() const;  // in ms from now; -1: none
  void RunTimers();

  const int fd_;
  vmm::FrameStream& pipe_;
  Slirp* slirp_ = nullptr;
  const in6_addr guest6_;
  std::vector<pollfd> polls_;
  std::list<std::unique_ptr<Timer>> timers_;
};

}  // namespace nat
