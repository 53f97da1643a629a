// The first process of a guest of `vmm test`: makes the guest usable, runs the command, tells vmm
// how it ended, and ends the machine. All that it is to do is in its plan
// (vmm/core/protocol/test_channel.h); README.md tells the order.
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/reboot.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "guest-tools/init/channel.h"
#include "guest-tools/init/command.h"
#include "guest-tools/init/modules.h"
#include "guest-tools/init/mounts.h"
#include "guest-tools/init/plan.h"

using namespace guest_init;

namespace {

constexpr unsigned short kDebugExit = 0xF4;  // docs/devices.md: a write ends the run

// At once and without the kernel's help where it allows that; else as every system does.
[[noreturn]] void EndMachine() {
  sync();
  if (ioperm(kDebugExit, 1, 1) == 0) outb(0, kDebugExit);
  reboot(RB_POWER_OFF);
  for (;;) pause();
}

void SayHello(Channel& channel) {
  utsname names{};
  uname(&names);
  uint8_t hello[1 + sizeof names.release];
  hello[0] = vmm::test_channel::kVersion;
  const size_t length = strlen(names.release);
  memcpy(hello + 1, names.release, length);
  channel.Send(Channel::Type::kHello, hello, 1 + length);
}

// The kernel opens none where it finds no console.
void FillStandardFds() {
  int fd = open("/dev/console", O_RDWR | O_NOCTTY);
  if (fd < 0) fd = open("/dev/null", O_RDWR);
  while (fd >= 0 && fd <= STDERR_FILENO) fd = dup(fd);
  if (fd > STDERR_FILENO) close(fd);
}

void SetEnvironment() {
  clearenv();
  setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
  setenv("HOME", "/root", 1);
  setenv("USER", "root", 1);
  setenv("TERM", "dumb", 1);
}

void Work(const Plan* plan, Channel& channel) {
  if (plan == nullptr) {
    channel.SendText(Channel::Type::kProblem, "the init of vmm test has no plan that it can read");
    return;
  }
  if (!LoadModules(*plan, channel) || !EnterRoot(*plan, channel)) return;
  if (plan->applets != nullptr) {
    const char* const install[] = {plan->applets, "--install", "-s", nullptr};
    RunQuietly(plan->applets, install);
  }
  RunCommand(*plan, channel);
}

}  // namespace

int main() {
  if (getpid() != 1) return 2;  // it would end the machine that it is tried on
  SetEnvironment();
  MountBasics();
  FillStandardFds();
  const Plan* plan = ReadPlan();
  Channel channel;
  if (channel.Open()) {
    SayHello(channel);
    Work(plan, channel);
    channel.Drain();
  }
  EndMachine();
}
