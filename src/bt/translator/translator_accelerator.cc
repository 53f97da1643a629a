#include "bt/translator/translator_accelerator.h"

#include "bt/cell/cell_tier.h"
#include "bt/interp/interpreter.h"

namespace bt {

vmm::Result<std::unique_ptr<vmm::Vm>> TranslatorAccelerator::CreateVm(const vmm::VmParts& parts) {
  auto vm = std::make_unique<InterpreterVm>(
      parts, [](Cpu& cpu) -> std::unique_ptr<Tier> { return std::make_unique<CellTier>(cpu); });
  vm->AllocateRamAhead();
  return vm;
}

vmm::Result<std::unique_ptr<vmm::InstructionRescuer>> TranslatorAccelerator::CreateRescuer(
    const vmm::VmParts& parts) {
  return InterpreterAccelerator().CreateRescuer(parts);
}

}  // namespace bt
