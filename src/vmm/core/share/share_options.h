// How a directory is shared.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "vmm/core/share/id_map.h"

namespace vmm {

// How long the guest may believe what it knows of a file without asking the host.
enum class ShareCache : uint8_t {
  kNone,   // not at all
  kShort,  // a second
  kLong,   // as long as it has room for it: nobody else changes the files
};

struct ShareOptions {
  std::string path = {};  // of the directory
  bool read_only = false;
  bool setuid = false;  // may the guest make programs that run as their owner?
  ShareCache cache = ShareCache::kNone;
  // Empty: the guest's root is the user that vmm runs as, and whatever a user of the guest makes
  // belongs to him.
  IdMap users = {}, groups = {};
  size_t descriptors = 512;         // at most, for what the guest knows and has open
  size_t inodes = size_t{1} << 20;  // that the guest may know
};

}  // namespace vmm
