// The engines of this build, for ChooseEngine().
#pragma once

#include "vmm/probe/engine_choice.h"

namespace vmm {

// The host's KVM and the interpreter.
EngineSources DefaultEngines();

}  // namespace vmm
