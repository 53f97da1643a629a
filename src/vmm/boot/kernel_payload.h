// The compressed kernel inside a bzImage, and its unpacking. [LINUX-BOOT] "Details of Header
// Fields": payload_offset, payload_length
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "vmm/boot/boot_file.h"
#include "vmm/boot/bzimage_header.h"
#include "vmm/core/base/result.h"

namespace vmm {

enum class Packing : uint8_t { kGzip, kXz, kLzma, kLz4, kZstd };
std::string_view Name(Packing packing);

struct KernelPayload {
  Packing packing = Packing::kGzip;
  uint64_t offset = 0, size = 0;  // bytes in the kernel file
  uint64_t unpacked_size = 0;     // bytes, as told behind the compressed ones; not to be trusted
};

// kConfigInvalid, with the reason: there is none, or it is packed in a way that is not known here.
Result<KernelPayload> FindKernelPayload(const BootFile& kernel, const BzImageHeader& header);

// Unpacks into `out`, which has unpacked_size bytes and is filled to the last. LZ4 is unpacked by
// as many threads as there are processors, all of which have ended on return. kConfigInvalid:
// damaged, or larger or smaller than was told; kIoError: the host can't read it; kHostMemory: there
// is none for the work. `out` then holds anything.
Result<void> Unpack(const BootFile& kernel, const KernelPayload& payload, std::span<uint8_t> out);

}  // namespace vmm
