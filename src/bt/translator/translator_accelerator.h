// The translator as an engine.
#pragma once

#include <memory>

#include "vmm/core/accel/accelerator.h"

namespace bt {

// The interpreter's machine with a translator above each vCPU: what the translator leaves out, the
// interpreter does.
class TranslatorAccelerator final : public vmm::Accelerator {
 public:
  std::string_view name() const override { return "bt"; }
  vmm::Result<std::unique_ptr<vmm::Vm>> CreateVm(const vmm::VmParts& parts) override;
  vmm::Result<std::unique_ptr<vmm::InstructionRescuer>> CreateRescuer(
      const vmm::VmParts& parts) override;
};

}  // namespace bt
