// vmm-nat: the network of one guest, in a process of its own. vmm starts it, and it ends with vmm.
//
// Its first message, in a frame like all others, is a text: "ok", and for each forward a line with
// what it listens on; or the reason why it can't serve. docs/network.md
#include <signal.h>
#include <sys/prctl.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "helpers/nat/confinement.h"
#include "helpers/nat/nat.h"
#include "helpers/nat/nat_options.h"

namespace {

constexpr int kUsage = 64, kUnavailable = 69;
constexpr size_t kInBuffer = 512 * 1024;

void Say(vmm::FrameStream& pipe, const std::string& text) {
  pipe.Add({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
  pipe.Flush();
}

}  // namespace

int main(int argc, char** argv) {
  auto options = nat::ParseOptions({argv + 1, argv + argc});
  if (!options) {
    std::fputs("vmm-nat is started by vmm; it is of no use alone\n", stderr);
    return kUsage;
  }
  signal(SIGPIPE, SIG_IGN);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  vmm::FrameStream pipe(options->fd, kInBuffer);
  nat::Nat nat(*options, pipe);
  std::string said = "ok\n";
  for (nat::Forward& forward : options->forwards) {
    const std::string asked = nat::Describe(forward);
    if (const int error = nat.Add(forward)) {
      Say(pipe, "can't listen on " + asked + ": " + std::strerror(error));
      return kUnavailable;
    }
    said += nat::Describe(forward) + "\n";
  }
  nat::Confine();
  Say(pipe, said);
  nat.Run();
  return 0;
}
