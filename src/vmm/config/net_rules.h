// What the keys of network cards mean together.
#pragma once

#include "vmm/config/config.h"
#include "vmm/config/config_reader.h"
#include "vmm/config/problems.h"

namespace vmm {

void CheckNets(const Config& config, const ConfigReader& reader, ConfigProblems& problems);

}  // namespace vmm
