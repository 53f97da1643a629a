// A RunOutcome on its way from the process of a guest to the one that started it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "vmm/machine/run_outcome.h"

namespace vmm {

// Without the statistics.
std::vector<uint8_t> EncodeOutcome(const RunOutcome& outcome);
// None: it is not whole.
std::optional<RunOutcome> DecodeOutcome(std::span<const uint8_t> bytes);

}  // namespace vmm
