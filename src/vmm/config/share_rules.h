// What the keys of shared directories mean together.
#pragma once

#include "vmm/config/config.h"
#include "vmm/config/config_reader.h"
#include "vmm/config/problems.h"

namespace vmm {

void CheckShares(const Config& config, const ConfigReader& reader, ConfigProblems& problems);
// What of it is on the host.
void CheckShareFiles(const Config& config, const ConfigReader& reader, ConfigProblems& problems);

}  // namespace vmm
