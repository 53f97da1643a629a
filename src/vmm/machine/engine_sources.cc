#include "vmm/machine/engine_sources.h"

#include "bt/interp/interpreter.h"
#include "bt/translator/translator_accelerator.h"

namespace vmm {

EngineSources DefaultEngines() {
  return {kvm::Kvm(),
          []() -> Result<std::unique_ptr<Accelerator>> {
            return std::make_unique<bt::InterpreterAccelerator>();
          },
          []() -> Result<std::unique_ptr<Accelerator>> {
            return std::make_unique<bt::TranslatorAccelerator>();
          }};
}

}  // namespace vmm
