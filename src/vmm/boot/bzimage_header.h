// The setup header of a Linux bzImage, read and checked. [LINUX-BOOT] "The Real-Mode Kernel Header"
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>

#include "vmm/boot/boot_file.h"
#include "vmm/boot/linux_boot_params.h"
#include "vmm/core/base/result.h"

namespace vmm {

// What the setup header says, checked; the fields that an older protocol lacks have the values that
// the protocol gives them.
struct BzImageHeader {
  uint16_t version = 0;           // 0x020f is 2.15
  uint64_t payload_offset = 0;    // in the file: the protected-mode kernel
  uint64_t payload_size = 0;      // bytes
  uint64_t load_address = 0;      // where the payload goes
  uint64_t runtime_start = 0;     // where the kernel will be once it has unpacked itself
  uint64_t init_size = 0;         // bytes it needs there; 0: not told (before 2.10)
  uint64_t command_line_max = 0;  // bytes, without the NUL
  uint64_t initrd_end_max = 0;    // one past the highest byte that an initrd may use
  uint64_t alignment = 1;         // of a place where it runs; a power of two
  bool is_relocatable = false;
  bool has_entry64 = false;
  std::string kernel_version;  // "6.1.0-18-amd64 (...) ..."; empty: not told
  uint64_t header_end = 0;     // offset in boot_params
  std::array<uint8_t, linux_boot::kHeaderLimit> raw{};

  // The kernel may use [load_address, end) before it reads the memory map.
  uint64_t end() const;
};

bool IsBzImage(std::span<const uint8_t> head);
Result<BzImageHeader> ParseBzImageHeader(const BootFile& kernel);
}  // namespace vmm
