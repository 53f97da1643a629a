// What the init is to do, as vmm wrote it into the initramfs.
#pragma once

#include <cstddef>

namespace guest_init {

struct Plan {
  static constexpr size_t kMostWords = 4096;
  struct Module {
    char* path;
    bool needed;
  };

  char* arguments[kMostWords + 1];  // ends with a null pointer
  size_t argument_count = 0;
  Module modules[kMostWords];
  size_t module_count = 0;
  char* applets = nullptr;
  char* root_disk = nullptr;
  char* root_share = nullptr;
};

// Null when it can't be read or makes no sense. The words live as long as the process.
const Plan* ReadPlan();

}  // namespace guest_init
