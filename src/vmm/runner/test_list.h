// A list of tests as a TOML file (docs/ci.md): one table [[test]] each.
#pragma once

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/config/load_config.h"
#include "vmm/core/base/result.h"

namespace vmm {

// What a test of the list says itself; what it does not say, the command line does.
struct ListedTest {
  std::string name;
  std::vector<std::string> command;  // words; a string of the file is one for sh -c
  std::filesystem::path config, rootfs, modules;
  std::vector<std::string> load;
  std::optional<std::chrono::milliseconds> timeout, idle_timeout;
  std::vector<Override> settings;  // keys of vm.toml
};

// Relative paths are taken from the directory of the file. All that is wrong is reported, one line
// each, as LoadConfig() does.
Result<std::vector<ListedTest>> ReadTestList(const std::filesystem::path& file);

// The same for text in memory; `file` gives the name in messages and the directory.
Result<std::vector<ListedTest>> ParseTestList(std::string_view text,
                                              const std::filesystem::path& file);

}  // namespace vmm
