// What the keys of a configuration mean together, and with the files of the host.
#pragma once

#include "vmm/config/config.h"
#include "vmm/config/config_reader.h"
#include "vmm/config/problems.h"

namespace vmm {

// Combinations that can't work, whatever the host is.
void CheckCombinations(const Config& config, const ConfigReader& reader, ConfigProblems& problems);

// That what is named exists, can be read, and fits into the guest's memory. Opens nothing for
// writing and leaves nothing behind.
void CheckFiles(const Config& config, const ConfigReader& reader, ConfigProblems& problems);

}  // namespace vmm
