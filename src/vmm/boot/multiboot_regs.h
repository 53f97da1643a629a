// Multiboot 1: the header in the kernel and the information that it gets. Byte offsets.
// [MULTIBOOT] 3.1, 3.3
#pragma once

#include <cstdint>

namespace vmm::multiboot {

inline constexpr uint32_t kHeaderMagic = 0x1badb002;  // in the file
inline constexpr uint32_t kBootMagic = 0x2badb002;    // in EAX at the entry
inline constexpr uint64_t kSearchLimit = 8192;        // the whole header is below this offset
inline constexpr uint64_t kShortHeader = 12;          // magic, flags, checksum
inline constexpr uint64_t kAddressHeader = 32;        // with the address fields

enum class Header : uint64_t {
  MAGIC = 0,
  FLAGS = 4,
  CHECKSUM = 8,
  HEADER_ADDR = 12,  // these five only with HeaderFlags::ADDRESSES
  LOAD_ADDR = 16,
  LOAD_END_ADDR = 20,
  BSS_END_ADDR = 24,
  ENTRY_ADDR = 28,
};

enum class HeaderFlags : uint32_t {
  PAGE_ALIGN_MODULES = 1u << 0,
  MEMORY_INFO = 1u << 1,
  VIDEO_MODE = 1u << 2,
  ADDRESSES = 1u << 16,
};
// A loader that does not know one of bits 0-15 must refuse the kernel.
inline constexpr uint32_t kKnownRequirements = 0x7;
inline constexpr uint32_t kRequirements = 0xffff;

enum class Info : uint64_t {
  FLAGS = 0,
  MEM_LOWER = 4,
  MEM_UPPER = 8,
  CMDLINE = 16,
  MODS_COUNT = 20,
  MODS_ADDR = 24,
  MMAP_LENGTH = 44,
  MMAP_ADDR = 48,
  BOOT_LOADER_NAME = 64,
};
inline constexpr uint64_t kInfoSize = 120;

enum class InfoFlags : uint32_t {
  MEMORY = 1u << 0,
  CMDLINE = 1u << 2,
  MODS = 1u << 3,
  MMAP = 1u << 6,
  BOOT_LOADER_NAME = 1u << 9,
};

enum class Module : uint64_t { MOD_START = 0, MOD_END = 4, STRING = 8 };
inline constexpr uint64_t kModuleSize = 16;

// `SIZE` does not count itself.
enum class Mmap : uint64_t { SIZE = 0, BASE_ADDR = 4, LENGTH = 12, TYPE = 20 };
inline constexpr uint64_t kMmapSize = 24;

}  // namespace vmm::multiboot
