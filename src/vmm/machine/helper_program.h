// Programs that come with vmm and that only vmm starts or hands to a guest.
#pragma once

#include <string>
#include <string_view>

#include "vmm/core/base/result.h"

namespace vmm {

// Beside this program, as in a build directory, or where they are installed. kUnavailable: it is
// missing; `or_else` is what the user may do besides building it ("write mode = ..."), or empty.
Result<std::string> FindHelperProgram(std::string_view name, std::string_view or_else);

}  // namespace vmm
