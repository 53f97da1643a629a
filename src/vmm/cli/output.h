// What a command prints for its user, on stdout.
#pragma once

#include <string_view>

#include "vmm/core/base/result.h"

namespace vmm {

// All of `text`, or kIoError: a full disk or a closed pipe must not look like success.
Result<void> PrintText(std::string_view text);

}  // namespace vmm
