#include "vmm/machine/helper_program.h"

#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>

namespace vmm {

Result<std::string> FindHelperProgram(std::string_view name, std::string_view or_else) {
  std::error_code ignored;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", ignored);
  const std::string places[] = {(self.parent_path() / name).string(),
                                (std::filesystem::path(VMM_HELPERS) / name).string()};
  for (const std::string& place : places) {
    if (access(place.c_str(), X_OK) == 0) return place;
  }
  return Fail(ExitCode::kUnavailable,
              fmt::format("the program {} is missing ({} and {}); fix: build or install all of "
                          "vmm{}{}",
                          name, places[0], places[1], or_else.empty() ? "" : ", or ", or_else));
}

}  // namespace vmm
