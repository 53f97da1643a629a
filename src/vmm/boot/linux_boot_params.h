// The "zero page" of the Linux/x86 boot protocol and the setup header inside it: byte offsets in
// struct boot_params, which are also those in the kernel file. [LINUX-BOOT] "The Real-Mode Kernel
// Header", [LINUX-ZERO-PAGE]
#pragma once

#include <cstdint>

namespace vmm::linux_boot {

enum class Field : uint16_t {
  // In boot_params only.
  ACPI_RSDP_ADDR = 0x070,     // 8
  EXT_RAMDISK_IMAGE = 0x0c0,  // 4
  EXT_RAMDISK_SIZE = 0x0c4,   // 4
  EXT_CMD_LINE_PTR = 0x0c8,   // 4
  ALT_MEM_K = 0x1e0,          // 4
  E820_ENTRIES = 0x1e8,       // 1
  E820_TABLE = 0x2d0,         // entries of 20 bytes

  // The setup header.
  SETUP_SECTS = 0x1f1,         // 1
  SYSSIZE = 0x1f4,             // 4
  VID_MODE = 0x1fa,            // 2
  BOOT_FLAG = 0x1fe,           // 2
  JUMP = 0x200,                // 2: a short jump; its distance tells where the header ends
  HEADER = 0x202,              // 4
  VERSION = 0x206,             // 2
  KERNEL_VERSION = 0x20e,      // 2
  TYPE_OF_LOADER = 0x210,      // 1
  LOADFLAGS = 0x211,           // 1
  CODE32_START = 0x214,        // 4
  RAMDISK_IMAGE = 0x218,       // 4
  RAMDISK_SIZE = 0x21c,        // 4
  HEAP_END_PTR = 0x224,        // 2, from the start of the setup code
  CMD_LINE_PTR = 0x228,        // 4
  INITRD_ADDR_MAX = 0x22c,     // 4, from 2.03
  KERNEL_ALIGNMENT = 0x230,    // 4, from 2.05
  RELOCATABLE_KERNEL = 0x234,  // 1, from 2.05
  XLOADFLAGS = 0x236,          // 2, from 2.12
  CMDLINE_SIZE = 0x238,        // 4, from 2.06
  PAYLOAD_OFFSET = 0x248,      // 4, from 2.08
  PAYLOAD_LENGTH = 0x24c,      // 4, from 2.08
  SETUP_DATA = 0x250,          // 8, from 2.09
  PREF_ADDRESS = 0x258,        // 8, from 2.10
  INIT_SIZE = 0x260,           // 4, from 2.10
};

constexpr uint64_t At(Field field) {
  return static_cast<uint64_t>(field);
}

inline constexpr uint16_t kBootFlag = 0xaa55;
inline constexpr uint32_t kHeaderMagic = 0x53726448;  // "HdrS"
inline constexpr uint16_t kOldestVersion = 0x0206;
inline constexpr uint16_t kPayloadVersion = 0x0208;
inline constexpr uint8_t kLoaderUndefined = 0xff;

enum class LoadFlags : uint8_t {
  LOADED_HIGH = 1u << 0,
  KASLR_FLAG = 1u << 1,  // set for the kernel proper by what unpacked it
  CAN_USE_HEAP = 1u << 7,
};
enum class XLoadFlags : uint16_t { XLF_KERNEL_64 = 1u << 0, XLF_CAN_BE_LOADED_ABOVE_4G = 1u << 1 };

inline constexpr uint64_t kSectorSize = 512;
inline constexpr uint64_t kBootParamsSize = 4096;
// The header may grow up to the EDD buffer that follows it in boot_params.
inline constexpr uint64_t kHeaderStart = 0x1f1, kHeaderLimit = 0x290;
inline constexpr unsigned kMaxE820Entries = 128;
inline constexpr unsigned kE820EntrySize = 20;
// A node of the list that SETUP_DATA starts. [LINUX-BOOT] "Details of Header Fields": setup_data
enum class SetupData : uint16_t { NEXT = 0, TYPE = 8, LEN = 12, DATA = 16 };  // 8, 4, 4, LEN bytes
inline constexpr uint32_t kSetupRngSeed = 9;  // from Linux 6.0; older kernels step over it
inline constexpr uint16_t kSetupDataVersion = 0x0209;

inline constexpr uint64_t kEntry64Offset = 0x200;  // of startup_64 in the loaded kernel

}  // namespace vmm::linux_boot
