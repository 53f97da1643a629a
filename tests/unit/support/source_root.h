// Where the source tree is, for tests that read fixtures and documents of it.
#pragma once

#include <cstdlib>
#include <filesystem>

// VMM_SOURCE_ROOT, which `meson test` sets; else the nearest folder above the program with
// fixtures.
inline std::filesystem::path SourceRoot() {
  if (const char* root = std::getenv("VMM_SOURCE_ROOT")) return root;
  std::error_code ignored;
  std::filesystem::path folder = std::filesystem::read_symlink("/proc/self/exe", ignored);
  while (folder.has_relative_path()) {
    folder = folder.parent_path();
    if (std::filesystem::exists(folder / "tests/fixtures", ignored)) return folder;
  }
  return std::filesystem::current_path(ignored);
}
