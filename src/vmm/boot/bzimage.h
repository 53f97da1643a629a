// Linux bzImage: the Linux/x86 boot protocol, 2.06 and newer. [LINUX-BOOT]
#pragma once

#include "vmm/boot/boot_input.h"
#include "vmm/boot/range_plan.h"
#include "vmm/core/base/result.h"
#include "vmm/core/state/cpu_state.h"

namespace vmm {

Result<BootEntry> LoadBzImage(const BootInput& input, RangePlan& plan, CpuState& boot_cpu);

}  // namespace vmm
