#include "kvm/kick_signal.h"

#include <signal.h>

#include <mutex>

#include "vmm/core/base/check.h"

namespace kvm {

int KickSignal() {
  return SIGRTMIN;
}

void InstallKickSignal() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action{};
    action.sa_handler = [](int) {};
    // What else the thread may be doing goes on; KVM_RUN returns EINTR all the same.
    action.sa_flags = SA_RESTART;
    CHECK(sigaction(KickSignal(), &action, nullptr) == 0);
  });
}

}  // namespace kvm
