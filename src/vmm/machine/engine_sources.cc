#include "vmm/machine/engine_sources.h"

#include "bt/interp/interpreter.h"

namespace vmm {

EngineSources DefaultEngines() {
  return {kvm::Kvm(),
          []() -> Result<std::unique_ptr<Accelerator>> {
            return std::make_unique<bt::InterpreterAccelerator>();
          },
          {}};
}

}  // namespace vmm
