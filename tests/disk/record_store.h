// A record of what happened to a file, in a file.
#pragma once

#include <filesystem>
#include <optional>
#include <vector>

#include "vmm/core/block/recorded_file.h"

namespace vmm {

bool SaveRecord(const std::filesystem::path& path, const std::vector<FileEvent>& events);
std::optional<std::vector<FileEvent>> LoadRecord(const std::filesystem::path& path);

}  // namespace vmm
