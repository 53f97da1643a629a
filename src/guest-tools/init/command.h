// Runs the command of the plan and tells vmm what it writes and how it ends.
#pragma once

#include "guest-tools/init/channel.h"
#include "guest-tools/init/plan.h"

namespace guest_init {

// Runs a program and waits for its end; what it writes goes to the console.
void RunQuietly(const char* program, const char* const* arguments);

// Returns when the command has ended and all that it had written is sent: also what those wrote
// that it left behind, as far as it was there by then.
void RunCommand(const Plan& plan, Channel& channel);

}  // namespace guest_init
