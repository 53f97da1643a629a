// Reading vm.toml and the settings of the command line into a Config.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "vmm/config/config.h"
#include "vmm/core/base/result.h"

namespace vmm {

// One setting from the command line; it wins over the file.
struct Override {
  std::string_view key;  // of config_keys.h, e.g. "memory"
  std::string value;     // as in the file, without quotation marks: "512M", "2", "stdio"
  std::string origin;    // for messages: "--memory"
};

// Reads `file`, applies `overrides` in order, then checks every rule. All that is wrong is
// reported, one line each: "vm.toml:3:8: what is wrong (why); fix: what to do". Relative paths are
// taken from the directory of `file`; those of overrides from the working directory.
// Errors: kConfigInvalid, kFileMissing, kNoPermission, kUsage (an override), as the first line has.
Result<Config> LoadConfig(const std::filesystem::path& file,
                          std::span<const Override> overrides = {});

// The same without a file: everything comes from the command line.
Result<Config> ConfigFromOverrides(std::span<const Override> overrides);

// The same for text in memory: `file` gives only the name in messages and the directory. Without
// `check_files`, nothing on the host is looked at (fuzzing).
Result<Config> ParseConfig(std::string_view text, const std::filesystem::path& file,
                           std::span<const Override> overrides = {}, bool check_files = true);

// Where the control socket of a machine is, by its vm.toml alone (or the directory that holds it);
// the files that it names need not be there.
Result<std::filesystem::path> ControlOf(const std::filesystem::path& file);

}  // namespace vmm
