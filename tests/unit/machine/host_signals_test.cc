#include "vmm/machine/host_signals.h"

#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <catch2/catch.hpp>

namespace vmm {
namespace {

TEST_CASE("Signals that ask the program to end are read from a descriptor, once each") {
  sigset_t before;
  pthread_sigmask(SIG_SETMASK, nullptr, &before);
  {
    auto signals = HostSignals::Create();
    REQUIRE(signals);
    CHECK((*signals)->Take().empty());
    for (const int signal : {SIGTERM, SIGINT, SIGHUP}) {
      kill(getpid(), signal);
      pollfd readable{(*signals)->fd(), POLLIN, 0};
      CHECK(poll(&readable, 1, 1000) == 1);
      CHECK((*signals)->Take() == std::vector<int>{signal});
    }
    CHECK((*signals)->Take().empty());
  }
  sigset_t after;
  pthread_sigmask(SIG_SETMASK, nullptr, &after);
  CHECK(sigismember(&after, SIGTERM) == 1);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

}  // namespace
}  // namespace vmm
