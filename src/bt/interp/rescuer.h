// The interpreter as the rescuer of another engine: a processor for each of its own, used for one
// instruction at a time.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "bt/interp/interpreter.h"
#include "vmm/core/accel/instruction_rescuer.h"

namespace bt {

class Cpu;

// Counts what it does by the name of the instruction, and logs each name once.
class Rescuer final : public vmm::InstructionRescuer {
 public:
  explicit Rescuer(const vmm::VmParts& parts);
  ~Rescuer() override;

  vmm::Result<vmm::Rescue> Finish(unsigned cpu, vmm::CpuState& state) override;

 private:
  Cpu& CpuOf(unsigned id);
  void Count(const std::string& name, uint64_t rip);

  InterpreterVm vm_;
  std::mutex mutex_;                              // leaf: nothing is called under it
  std::vector<std::unique_ptr<vmm::Vcpu>> cpus_;  // guarded by mutex_; made when first needed
  std::map<std::string, uint64_t> counts_;        // guarded by mutex_
};

}  // namespace bt
