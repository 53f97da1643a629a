// What a loader of one format gets: the files, open and checked, and where they may go.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "vmm/boot/boot_file.h"
#include "vmm/boot/boot_request.h"
#include "vmm/boot/range_plan.h"

namespace vmm {

struct BootInput {
  const BootFile& kernel;
  const BootRequest& request;
  std::optional<BootFile> initrd;
  std::vector<BootFile> modules;  // request.modules, one by one
};

// Initrd and modules as PVH and Multiboot count them.
struct PlacedModule {
  uint64_t start = 0, size = 0;  // guest-physical, bytes
  std::string command_line;
};

// The command line and module texts as bytes with a NUL, at `offset` in `bytes`.
inline uint64_t AppendText(std::vector<uint8_t>& bytes, const std::string& text) {
  const uint64_t offset = bytes.size();
  bytes.insert(bytes.end(), text.begin(), text.end());
  bytes.push_back(0);
  return offset;
}

}  // namespace vmm
