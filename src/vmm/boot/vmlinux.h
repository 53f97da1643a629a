// What a bzImage unpacks to: Linux's ELF image, and behind it, where the kernel can move, the lists
// of the places that hold addresses (arch/x86/tools/relocs.c of Linux writes them).
#pragma once

#include <cstdint>
#include <span>

#include "vmm/boot/boot_file.h"
#include "vmm/boot/elf_image.h"
#include "vmm/core/base/result.h"

namespace vmm {

// Link-time virtual addresses of fields, four bytes each (sign-extended for a 64-bit kernel); all
// empty for a kernel that does not move.
struct Relocations {
  std::span<const uint8_t> wide;     // of 8 bytes that grow with the distance
  std::span<const uint8_t> inverse;  // of 4 bytes that shrink: relative to what does not move
  std::span<const uint8_t> narrow;   // of 4 bytes that grow

  bool empty() const { return wide.empty() && narrow.empty(); }
};

struct Vmlinux {
  ElfImage elf;
  uint64_t start = 0, end = 0;  // guest-physical: what the segments hold, as linked
  Relocations relocations;
};

// `bytes` must outlive the result, which points into it. kConfigInvalid: no ELF image, segments
// that do not follow each other in memory as in the file, or lists of an unknown form.
Result<Vmlinux> ParseVmlinux(std::span<const uint8_t> bytes);

// Moves the segments to where they run: what belongs at kernel.start goes to bytes[at]. False, and
// nothing is done, if one would have to go up. What was behind the last one is not touched.
bool PlaceSegments(const Vmlinux& kernel, std::span<uint8_t> bytes, uint64_t at);

// Makes the placed image run `distance` bytes further up in virtual memory. `image` starts with
// the byte of kernel.start. False: a place is outside; some were changed by then.
bool Relocate(const Vmlinux& kernel, std::span<uint8_t> image, uint64_t distance);

}  // namespace vmm
