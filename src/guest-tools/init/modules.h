// Loads the kernel's modules that the plan names.
#pragma once

#include "guest-tools/init/channel.h"
#include "guest-tools/init/plan.h"

namespace guest_init {

// False: one that is needed can't be loaded, and the problem has been told.
bool LoadModules(const Plan& plan, Channel& channel);

}  // namespace guest_init
