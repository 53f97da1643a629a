// What is to be booted, and what came of it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/boot/memory_map.h"
#include "vmm/core/base/types.h"

namespace vmm {

// A file that the kernel finds in memory, with a text of its own.
struct BootModule {
  std::filesystem::path path;
  std::string command_line;
};

// How a bzImage is entered. kUnpacked: in the kernel proper, unpacked by us; the others: where it
// unpacks itself. kAuto: unpacked if that can be done, else by the first other that it has.
enum class ForceEntry : uint8_t { kAuto, kUnpacked, k64, k32, k16 };

struct BootRequest {
  std::filesystem::path kernel;     // bzImage, PVH ELF or Multiboot; told apart by the content
  std::filesystem::path initrd;     // empty: none. PVH and Multiboot kernels get it as module 0
  std::string command_line;         // handed over as it is
  std::vector<BootModule> modules;  // PVH and Multiboot only
  GuestPhys acpi_rsdp;              // 0: no ACPI tables
  ForceEntry entry = ForceEntry::kAuto;  // bzImage only
  // Guest RAM was never used, so that what a kernel wants zeroed need not be written. False after a
  // reset of the machine.
  bool memory_is_zero = false;
  // bzImage: hand 32 random bytes of the host to the kernel, so that its random numbers are good
  // from the start, and put an unpacked one at a random address. Off: every boot looks the same.
  bool seed_random = true;
};

enum class BootFormat : uint8_t { kBzImage, kPvh, kMultiboot };
std::string_view Name(BootFormat format);

enum class EntryMode : uint8_t { kProtected32, kLong64, kReal16 };

// For the log and `vmm inspect`; the machine needs none of it to run.
struct BootEntry {
  struct Placed {
    std::string name;  // "kernel", "initrd", "module 0", "command line", ...
    GuestPhys start;
    uint64_t size = 0;  // bytes
  };

  BootFormat format = BootFormat::kBzImage;
  EntryMode mode = EntryMode::kProtected32;
  GuestPhys entry;          // of the first instruction
  std::string description;  // "Linux 6.1.0-18-amd64 (...), boot protocol 2.15"
  std::vector<Placed> placed;
  std::vector<MemoryMapEntry> memory_map;
};

}  // namespace vmm
