// What a program expects to be mounted, and the root file system.
#pragma once

#include "guest-tools/init/channel.h"
#include "guest-tools/init/plan.h"

namespace guest_init {

// /proc, /sys, /dev and what is in them, in the root that is there.
void MountBasics();

// The root of the plan takes the place of the initramfs. False: it can't, and the problem has been
// told.
bool EnterRoot(const Plan& plan, Channel& channel);

}  // namespace guest_init
