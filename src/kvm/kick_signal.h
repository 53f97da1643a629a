// The signal that takes a thread out of KVM_RUN.
#pragma once

#include <pthread.h>

namespace kvm {

// A real-time signal with a handler that does nothing: only the interruption counts.
int KickSignal();

// Installs the handler, once a process. Before any thread enters KVM_RUN.
void InstallKickSignal();

}  // namespace kvm
