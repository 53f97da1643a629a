// What `vmm inspect` prints.
#pragma once

#include <string>

#include "vmm/machine/machine_description.h"

namespace vmm {

// Tables of memory, processors, devices and PCI functions, for people.
std::string InspectText(const MachineDescription& machine);

}  // namespace vmm
