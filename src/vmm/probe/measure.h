// Runs the tiny guest in a VM and says what came of it.
#pragma once

#include <string>
#include <vector>

#include "kvm/prepared_vm.h"
#include "vmm/core/base/result.h"
#include "vmm/probe/run_limit.h"

namespace vmm::probe {

struct Measurement {
  double speed_ratio = 0;            // guest / native; 0 = the loop did not even finish
  std::vector<std::string> missing;  // names of the stages that failed, in the order of Stage
  bool out_of_time = false;          // the budget ended before all stages were tried
  std::string failure;               // what KVM said about the first failed stage
};

// Uses CPU 0 and memory slot 0 of `vm`; both are as new afterwards. kEngineFailed when KVM refuses
// to set the guest up or to take its own state back.
Result<Measurement> Measure(kvm::PreparedVm& vm, Allowance budget);

}  // namespace vmm::probe
