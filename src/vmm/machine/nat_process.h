// The helper that is a guest's network behind the host's: vmm-nat, started and ended.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>

#include "vmm/config/config.h"
#include "vmm/core/base/result.h"
#include "vmm/core/host/unique_fd.h"

namespace vmm {

// It stands beside vmm, or where `meson install` puts it, and dies with the thread that started it,
// or when its socket is closed.
class NatProcess {
 public:
  // `net.mac` is the card's, for forwards of IPv6. `hostname`: what DHCP tells the guest. Waits
  // until it serves, or says why it can't.
  static Result<std::unique_ptr<NatProcess>> Start(const NetSpec& net, const std::string& hostname,
                                                   const std::string& name);
  ~NatProcess();
  NatProcess(const NatProcess&) = delete;
  NatProcess& operator=(const NatProcess&) = delete;

  // The stream of frames; once.
  UniqueFd TakeSocket() { return std::move(socket_); }
  pid_t pid() const { return pid_; }

 private:
  NatProcess(UniqueFd socket, pid_t pid) : socket_(std::move(socket)), pid_(pid) {}
  Result<std::string> AwaitReport();

  UniqueFd socket_;
  const pid_t pid_;
};

}  // namespace vmm
