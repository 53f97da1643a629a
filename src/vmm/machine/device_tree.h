// The machine as a flattened device tree ([DTSpec] 5): dumped by `vmm inspect --dtb FILE`.
#pragma once

#include <cstdint>
#include <vector>

#include "vmm/core/base/result.h"
#include "vmm/machine/machine_description.h"

namespace vmm {

// The blob that `dtc -I dtb` and kernels read. kInternal when libfdt refuses.
Result<std::vector<uint8_t>> BuildDeviceTree(const MachineDescription& machine);

}  // namespace vmm
